"""Runs shell commands of the documentation as a reader does: one after the other in one folder,
servers in terminals of their own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tests.paths import ROOT

STAYS = re.compile(r"(\.venv/bin/)?candor (serve|generator)\b|vllm serve\b|make serve\b")
"""Commands that run until they are stopped."""

NAMESPACE = ["unshare", "--user", "--map-root-user", "--net"]
"""The pages say port 8000; in a network of its own nothing else has it."""

HEAD = """
set -euo pipefail
if [ "$OWN_NETWORK" = 1 ]; then ip link set lo up; fi
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
ready() {  # PORT LOG: waits for the server that was started last
  for _ in $(seq 1200); do
    if curl -fs "http://127.0.0.1:$1/health" >/dev/null; then return; fi
    kill -0 $! || break
    sleep 0.25
  done
  cat "$2" >&2
  return 1
}
"""


@cache
def own_network() -> bool:
    """Whether a user of this machine may make a network namespace."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    tried = [*NAMESPACE, "ip", "link", "set", "lo", "up"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


def ports_are_free(*ports: int) -> bool:
    """Whether the ports of the pages can be used: in a network of our own, or because nobody
    does."""
    if own_network():
        return True
    for port in ports:
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def make_clone(folder: Path) -> Path:
    """A working folder with the commands that a reader has, as in a clone after `make`."""
    shims = folder / ".venv" / "bin"
    shims.mkdir(parents=True)
    for name, words in {
        "candor": [sys.executable, "-m", "candor"],
        "python": [sys.executable],
        "vllm": [sys.executable, str(ROOT / "tests" / "docs" / "policy.py")],
    }.items():
        shim = shims / name
        shim.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        shim.chmod(0o755)
    (folder / "build").symlink_to(ROOT / "build")
    return folder


def run_session(folder: Path, commands: Sequence[str], *, timeout_s: float = 1500) -> list[str]:
    """What each command printed on stdout; "" for those that stay running.

    Raises:
        AssertionError: a command failed; the message has what it printed on stderr.
    """
    script = HEAD
    for number, command in enumerate(commands):
        out, err = folder / f"out-{number}", folder / f"err-{number}"
        out.touch()
        if STAYS.match(command):
            # `exec`: the trap ends the server itself, not a shell that leaves it behind.
            port = (re.findall(r"--port[ =](\d+)", command) or ["8000"])[-1]
            script += f"{{ exec {command}\n}} >{err} 2>&1 &\nready {port} {err}\n"
        else:
            script += f"echo {number} >{folder}/running\n{{ {command}\n}} >{out} 2>{err}\n"
    alone = own_network()
    ended = subprocess.run(
        [*(NAMESPACE if alone else []), "bash", "-c", script],
        cwd=folder,
        env=os.environ
        | {
            "PATH": f"{folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "OWN_NETWORK": str(int(alone)),
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    if ended.returncode != 0:
        number = int((folder / "running").read_text()) if (folder / "running").exists() else 0
        errors = (folder / f"err-{number}").read_text() if number else ""
        raise AssertionError(f"{commands[number]}\n{errors[-3000:]}\n{ended.stderr[-3000:]}")
    return [(folder / f"out-{number}").read_text() for number in range(len(commands))]
