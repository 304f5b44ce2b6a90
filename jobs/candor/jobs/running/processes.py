"""Start a server as a process, wait until it answers, stop it whatever happens.

For the demo, the bench and the tests. Not a supervisor: a process that dies is reported with the
end of its log, not started again.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


class StartFailed(RuntimeError):
    """A server process died or was not ready in time; the message ends with its last log lines."""


def candor(*arguments: str) -> list[str]:
    """argv of the `candor` command of this Python."""
    return [sys.executable, "-m", "candor", *arguments]


def free_port() -> int:
    """A loopback port on which nothing listens right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: Sequence[str],
    *,
    ready_url: str,
    log: Path,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` until the block ends; the block is entered when `ready_url` answers 200.

    Args:
        environment: the whole environment of the process; None is this process's own.

    Raises:
        StartFailed: the process exited, or was not ready within `timeout_s` seconds.
    """
    process = start(command, log, environment)
    try:
        wait_ready(process, ready_url, log, timeout_s)
        yield process
    finally:
        stop(process)


def start(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own; what it prints goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        return subprocess.Popen(
            command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # so that its own workers can be stopped with it
        )


def wait_ready(process: subprocess.Popen[bytes], url: str, log: Path, timeout_s: float) -> None:
    """Return when `url` answers 200.

    Raises:
        StartFailed: the process exited, or `timeout_s` seconds passed.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StartFailed(
                f"the server exited with {process.returncode}; end of {log}:\n{tail(log)}"
            )
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.1)
    raise StartFailed(f"{url} was not ready in {timeout_s:.0f} s; end of {log}:\n{tail(log)}")


def stop(process: subprocess.Popen[bytes], grace_s: float = 40) -> None:
    """SIGTERM, also to a paused process; SIGKILL to its whole group after `grace_s` seconds."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def exit_on_sigterm() -> None:
    """From now on SIGTERM raises SystemExit, so that context managers stop what they started."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)
