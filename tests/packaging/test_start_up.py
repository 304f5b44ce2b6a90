"""A command's help, a mistyped command and the client cost little: CPU time, and no torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cpu_time import cost
from tests.packaging.environments import Environment

MAX_CPU_S = 0.5
MAX_CLIENT_CPU_S = 0.3
CLIENT = [
    "client",
    *(f"client.{name}" for name in ("trl", "trl_advantages", "verl", "verifiers", "nemo")),
]
COMMANDS = [["--help"], ["serve", "--help"], ["probe", "train", "--help"], ["sevre"]]
"""Help is the same for every command: it is made of one file."""


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_it_takes_less_than_half_a_second(
    server: Environment, tmp_path: Path, arguments: list[str]
) -> None:
    command = [str(server.folder / "bin" / "candor"), *arguments]
    assert cost(command, tmp_path) < MAX_CPU_S


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_it_imports_neither_torch_nor_transformers(
    server: Environment, tmp_path: Path, arguments: list[str]
) -> None:
    ended = server.run("python", "-X", "importtime", "-m", "candor", *arguments, cwd=tmp_path)
    lines = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert "json" in imported
    assert not {"cyclopts", "torch", "transformers", "fastapi"} & imported


def test_that_check_sees_torch(server: Environment, tmp_path: Path) -> None:
    ended = server.run("python", "-X", "importtime", "-c", "import torch", cwd=tmp_path)
    assert "| torch\n" in ended.stderr


@pytest.mark.parametrize("module", CLIENT)
def test_the_client_and_each_adapter_take_less_than_a_third_of_a_second(
    client: Environment, tmp_path: Path, module: str
) -> None:
    command = [str(client.python), "-c", f"import candor.{module}"]
    ended = client.run("python", *command[1:], cwd=tmp_path)  # compiles too
    assert ended.returncode == 0, ended.stderr
    assert cost(command, tmp_path) < MAX_CLIENT_CPU_S


def test_that_limit_would_see_a_heavy_import(server: Environment, tmp_path: Path) -> None:
    command = [str(server.python), "-c", "import torch"]
    assert cost(command, tmp_path, rounds=2) > MAX_CPU_S
