"""The CPU time of a command, as if every machine were equally fast."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.packaging.environments import clean_environ

YARDSTICK = "import asyncio, decimal, email.message, http.client, ssl, unittest, xml.dom.minidom"
YARDSTICK_CPU_S = 0.08
"""On a machine, or in a minute, in which the yardstick takes longer, a command's time is divided by
as much: CPU time too grows where another process uses the core's other thread."""


def cost(command: list[str], cwd: Path, rounds: int = 5) -> float:
    """Least CPU time of a command in seconds, on a machine of the yardstick's speed."""
    yardstick = [sys.executable, "-I", "-c", YARDSTICK]
    for each in (command, yardstick):
        _cpu_seconds(each, cwd)  # compiles what was never imported here
    pairs = [(_cpu_seconds(command, cwd), _cpu_seconds(yardstick, cwd)) for _ in range(rounds)]
    own, other = (min(some) for some in zip(*pairs, strict=True))
    return own / max(1.0, other / YARDSTICK_CPU_S)


def _cpu_seconds(command: list[str], cwd: Path) -> float:
    """User and system time of a process and its children."""
    process = subprocess.Popen(
        command, cwd=cwd, env=clean_environ(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime
