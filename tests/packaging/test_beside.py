"""Candor in a user's project whose own files have the names of our folders, and the user's files
beside Candor. Trainers put the working directory first on Python's path."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.environments import Environment

FOLDERS = ("jobs", "probes", "service", "forward")

THEIRS = """
import sys
first, *rest = {orders}[int(sys.argv[1])]
for line in (first, *rest):
    exec(line)
assert client.MINE == jobs.mine.MINE == service.mine.MINE == probes.mine.MINE == 'mine'
assert RewardClient.__module__ == 'candor.client.reward'
""".format(
    orders=[
        [
            "import client, jobs.mine, service.mine, probes.mine, forward.mine",
            "from candor.client import RewardClient; import candor.client.verl",
        ],
        [
            "from candor.client import RewardClient; import candor.client.verl",
            "import client, jobs.mine, service.mine, probes.mine, forward.mine",
        ],
    ]
)
"""Their modules and ours in one process, theirs first and ours first."""

PLUGIN = """
from importlib.metadata import entry_points
(plugin,) = entry_points(group='vllm.general_plugins', name='candor')
assert plugin.value == 'candor.engines.vllm.plugin:register'
assert callable(plugin.load())
"""


@pytest.fixture(params=[True, False], ids=["packages", "plain folders"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A user's project, its folders with and without an `__init__.py`."""
    (tmp_path / "client.py").write_text("MINE = 'mine'\n")
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text("MINE = 'mine'\n")
        if request.param:
            (tmp_path / name / "__init__.py").touch()
    return tmp_path


@pytest.fixture(params=[{}, {"PYTHONPATH": "."}], ids=["", "PYTHONPATH=."])
def variables(request: pytest.FixtureRequest) -> dict[str, str]:
    found: dict[str, str] = request.param
    return found


@pytest.mark.parametrize("order", ["0", "1"], ids=["theirs first", "ours first"])
def test_in_one_process_both_import(
    client: Environment, project: Path, variables: dict[str, str], order: str
) -> None:
    ended = client.run("python", "-c", THEIRS, order, cwd=project, **variables)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["candor", "--help"], "serve"),
        (["python", "-m", "candor", "--help"], "serve"),
        (["candor", "serve", "--help"], "--model"),
        (["candor", "score", "--help"], "--rollouts"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_commands_answer(
    server: Environment, project: Path, variables: dict[str, str], command: list[str], words: str
) -> None:
    ended = server.run(*command, cwd=project, **variables)
    assert ended.returncode == 0, ended.stderr
    assert words in ended.stdout


def test_vllm_loads_the_plugin(
    server: Environment, project: Path, variables: dict[str, str]
) -> None:
    ended = server.run("python", "-c", PLUGIN, cwd=project, **variables)
    assert ended.returncode == 0, ended.stderr


def test_another_package_named_candor_is_told_in_one_sentence(
    jobs: Environment, tmp_path: Path
) -> None:
    (tmp_path / "candor").mkdir()
    other = tmp_path / "candor" / "__init__.py"
    for source in ("", "import no_such_module\n"):
        other.write_text(source)
        ended = jobs.run("candor", "--help", cwd=tmp_path, PYTHONPATH=str(tmp_path))
        assert ended.returncode == 1
        assert ended.stdout == ""
        (line,) = ended.stderr.splitlines()
        assert line.startswith("candor: ")
        assert str(other) in line
    other.unlink()
    other.with_name("__main__.py").write_text("raise SystemExit('theirs')\n")
    other.write_text("")
    ended = jobs.run("candor", "--help", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1)
    assert str(other) in ended.stderr
