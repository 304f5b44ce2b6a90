"""A command's help, a mistyped command and the client cost little: CPU time, and no torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.environments import Environment, clean_environ

MAX_CPU_S = 0.5
MAX_CLIENT_CPU_S = 0.3
YARDSTICK = "import asyncio, decimal, email.message, http.client, ssl, unittest, xml.dom.minidom"
YARDSTICK_CPU_S = 0.08
"""On a machine, or in a minute, in which the yardstick takes longer, the limits are longer in
proportion: CPU time too grows by half where another process uses the core's other thread."""
CLIENT = [
    "client",
    *(f"client.{name}" for name in ("trl", "trl_advantages", "verl", "verifiers", "nemo")),
]
COMMANDS = [["--help"], ["serve", "--help"], ["probe", "train", "--help"], ["sevre"]]
"""Help is the same for every command: it is made of one file."""


def cpu_seconds(command: list[str], cwd: Path) -> float:
    """User and system time of a process and its children."""
    process = subprocess.Popen(
        command, cwd=cwd, env=clean_environ(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def cost(command: list[str], cwd: Path, rounds: int = 5) -> float:
    """Least CPU time of a command in seconds, on a machine of the yardstick's speed."""
    yardstick = [sys.executable, "-I", "-c", YARDSTICK]
    for each in (command, yardstick):
        cpu_seconds(each, cwd)  # compiles what was never imported here
    pairs = [(cpu_seconds(command, cwd), cpu_seconds(yardstick, cwd)) for _ in range(rounds)]
    own, other = (min(some) for some in zip(*pairs, strict=True))
    return own / max(1.0, other / YARDSTICK_CPU_S)


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
