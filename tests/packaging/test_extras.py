"""Each extra runs its commands, and says of the others what to install."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from candor.cli.commands import COMMANDS
from candor.jobs.running.files import read_rows, write_rows
from tests.client.asking import native
from tests.client.replies import numbers
from tests.imports import reachable
from tests.jobs.stub import running_stub
from tests.packaging.environments import Environment, Wheels, make_environment
from tests.paths import ROOT
from tests.service.serving import running, tiny_app


def commands(extra: str) -> list[str]:
    """Every command that one extra promises to run."""
    return [command.name for command in COMMANDS if command.extra == extra]


@pytest.fixture(scope="session")
def lab(wheels: Wheels, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return make_environment(tmp_path_factory.mktemp("lab") / "venv", wheels.both, ["lab"])


def test_the_jobs_extra_runs_its_commands_without_torch(jobs: Environment, tmp_path: Path) -> None:
    without = jobs.run("python", "-c", "import torch", cwd=tmp_path)
    assert "No module named 'torch'" in without.stderr
    some = {"check", "generate", "judge", "score", "bon", "pairs", "data convert", "data questions"}
    assert some <= {*commands("jobs")}
    for name in commands("jobs"):
        told = jobs.run("candor", *name.split(), "--help", cwd=tmp_path)
        assert told.returncode == 0, told.stderr
        assert f"Usage: candor {name}" in told.stdout
        (command,) = [row for row in COMMANDS if row.name == name]
        module = command.target.partition(":")[0]
        imported = jobs.run("python", "-c", f"import {module}", cwd=tmp_path)
        assert imported.returncode == 0, imported.stderr


def test_the_jobs_extra_chooses_the_best_of_stored_rows(jobs: Environment, tmp_path: Path) -> None:
    texts = ["yes", "no", "perhaps", "it depends"]
    row = {
        "key": "one",
        "messages": [{"role": "user", "content": "Is it good?"}],
        "responses": [{"text": text, "finish_reason": "stop"} for text in texts],
        "scores": [numbers(text, 0.5) for text in texts],
    }
    write_rows(tmp_path / "scored.jsonl", [row, row | {"key": "two"}])
    command = ("candor", "bon", "--scored=scored.jsonl", "--out=bon.json", "--n=1,4")
    done = jobs.run(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "bon.json").read_bytes())
    best = max(numbers(text, 0.5)["reward"] for text in texts)
    assert report["chosen_by"]["reward"][-1]["reward"]["mean"] == pytest.approx(best)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(tiny_app()) as url:
        yield url


def test_the_jobs_extra_samples_scores_and_compares_against_servers(
    jobs: Environment, url: str, tmp_path: Path
) -> None:
    """The whole of `docker/best-of-n.sh`, and the options that read a probe's card."""
    prompts = [
        {"key": f"k{n}", "messages": [{"role": "user", "content": f"Is poem {n} good?"}]}
        for n in range(3)
    ]
    write_rows(tmp_path / "prompts.jsonl", prompts)
    with running_stub() as stub:
        generator = (f"--generator-url={stub.url}", "--generator-model=tiny")
        for command in (
            ("generate", "--prompts=prompts.jsonl", "--out=rollouts.jsonl", "--n=4", *generator),
            ("score", "--rollouts=rollouts.jsonl", "--out=scored.jsonl", f"--reward-url={url}"),
            ("score", "rollouts.jsonl", "--out=tokens.jsonl", f"--reward-url={url}", "--tokens"),
            ("inspect", "tokens.jsonl"),
            ("bon", "--scored=scored.jsonl", "--out=bon.json", "--n=1,4"),
            ("bon", "--scored=scored.jsonl", "--out=k.json", "--n=1", "--kappa-sweep=sycophancy=1"),
            ("bon", "--scored=scored.jsonl", "--out=c.json", "--n=1", "--closed-form=sycophancy=1"),
            ("pairs", "--scored=scored.jsonl", "--out=pairs.jsonl", "--kappa=sycophancy=1"),
        ):
            done = jobs.run("candor", *command, cwd=tmp_path)
            assert done.returncode == 0, (command, done.stderr)
    for page in ("tokens.jsonl.html", "bon.json.html"):  # the pages' template, style and script too
        assert "</html>" in (tmp_path / page).read_text(encoding="utf-8")
    scored = read_rows(tmp_path / "scored.jsonl")
    assert [len(row["scores"]) for row in scored] == [4] * 3
    texts = [response["text"] for response in scored[0]["responses"]]
    expected = native(url, texts, messages=prompts[0]["messages"])
    assert [one["reward"] for one in scored[0]["scores"]] == pytest.approx(
        [one.reward for one in expected], abs=1e-5
    )


@pytest.mark.parametrize("name", commands("jobs"))
def test_what_a_command_of_the_jobs_extra_can_come_to_import_is_in_the_extra(
    jobs: Environment, tmp_path: Path, name: str
) -> None:
    """Imports inside functions too: a bar that is drawn late is missed late."""
    (command,) = [row for row in COMMANDS if row.name == name]
    wanted = sorted(reachable(command.target.partition(":")[0]) - OPTIONAL)
    assert "torch" not in wanted
    code = f"import importlib.util as u; print([n for n in {wanted} if u.find_spec(n) is None])"
    assert jobs.run("python", "-c", code, cwd=tmp_path).stdout == "[]\n"


def test_the_walk_finds_what_is_imported_inside_a_function() -> None:
    assert "tqdm" in reachable("candor.jobs.rollouts.score")
    assert "torch" in reachable("candor.jobs.probe.calibrate")  # the control


@pytest.mark.slow
@pytest.mark.parametrize("name", commands("lab"))
def test_the_lab_extra_answers_for_each_of_its_commands(
    lab: Environment, tmp_path: Path, name: str
) -> None:
    told = lab.run("candor", *name.split(), "--help", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    (command,) = [row for row in COMMANDS if row.name == name]
    module = command.target.partition(":")[0]
    imported = lab.run("python", "-c", f"import {module}", cwd=tmp_path)
    assert imported.returncode == 0, imported.stderr
    wanted = sorted(reachable(module) - OPTIONAL)
    code = f"import importlib.util as u; print([n for n in {wanted} if u.find_spec(n) is None])"
    assert lab.run("python", "-c", code, cwd=tmp_path).stdout == "[]\n"


OPTIONAL = {"vllm", "pyarrow", "datasets", "compression", "pandas", "transformers"}
"""Imported where a user asks for `--engine vllm`, for a data frame, or for rows in Parquet, in
Zstandard (Python 3.14 brings `compression`) or on the Hub: a message says what to install.
`transformers` is there wherever TRL hands its tools to the client's adapter."""


@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("server", ["serve", "--model=m"]),
        ("server", ["generator", "--model=m"]),
        ("lab", ["probe", "report", "--probe=p", "--out=o"]),
        ("lab", ["model", "convert", "model", "--out=out"]),
    ],
)
def test_a_command_of_another_extra_says_in_its_last_line_what_to_install(
    jobs: Environment, tmp_path: Path, extra: str, command: list[str]
) -> None:
    """Before it, a server says that it imports its libraries."""
    ended = jobs.run("candor", *command, cwd=tmp_path)
    assert ended.returncode != 0
    assert ended.stdout == ""
    *before, line = ended.stderr.splitlines()
    assert f"pip install 'candor-rewards[{extra}]'" in line
    assert len(before) <= 1
    assert all("importing torch and transformers" in one for one in before)


def test_the_client_alone_has_no_command(client: Environment, tmp_path: Path) -> None:
    assert not (client.folder / "bin" / "candor").exists()
    ended = client.run("python", "-m", "candor", cwd=tmp_path)
    assert ended.returncode == 1


@pytest.mark.parametrize("command", commands("server"))
def test_the_server_extra_runs_its_commands(
    server: Environment, tmp_path: Path, command: str
) -> None:
    told = server.run("candor", command, "--help", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "--model" in told.stdout
    flags = ("--model=no-such-folder", "--port=0")
    missing = server.run("candor", command, *flags, cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert missing.returncode != 0
    assert "No module named" not in missing.stderr


@pytest.mark.slow
def test_the_lab_extra_runs_its_commands(lab: Environment, tmp_path: Path) -> None:
    """Their modules in one process, which imports torch once; then one of them by its name."""
    modules = {row.target.partition(":")[0] for row in COMMANDS if row.extra == "lab"}
    assert len(modules) > 8
    imported = lab.run("python", "-c", f"import {', '.join(sorted(modules))}", cwd=tmp_path)
    assert imported.returncode == 0, imported.stderr
    told = lab.run("candor", "data", "kinds", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "poem-feedback" in told.stdout


IN_THE_CLONE = {
    "demo": "import demo.assets, demo.run, demo.poems.run, demo.grounded.page",
    "bench": "import bench.__main__, bench.scaling, bench.load.locustfile",
    "docs": "import zensical, docsite.build, docsite.metrics, docsite.routes",
    "rl": "import candor.jobs.rl.flags, candor.jobs.rl.trainer",
    "ray": "import candor.ray.app",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "extra",
    [
        "demo",
        "bench",
        "docs",
        pytest.param("rl", marks=pytest.mark.trl),
        pytest.param("ray", marks=pytest.mark.ray),
    ],
)
def test_an_extra_brings_all_that_its_modules_import(
    wheels: Wheels, tmp_path: Path, extra: str
) -> None:
    try:
        environment = make_environment(tmp_path / "venv", wheels.both, [extra])
    except PackageNotFoundError as missing:
        pytest.skip(f"not installed: {missing.name}")
    ended = environment.run("python", "-c", IN_THE_CLONE[extra], cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
