"""The arms' processes: started one after the other, paused while another arm is measured, their
memory read.

An idle server still takes CPU time on a machine of two cores (spinning threads, health checks). A
server that got SIGSTOP takes none, and keeps its caches and its memory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from candor.jobs.running import processes


@dataclass
class Running:
    """A started server.

    Attributes:
        process: leader of a process group of its own.
        url: without a trailing slash; empty for a process that speaks over pipes.
        start_s: seconds from the start of the process to its first good answer.
        memory: bytes of the process tree at each reading, see `tree_bytes`.
        peak_bytes: peak of the process tree up to the last reading, see `tree_peak_bytes`.
    """

    process: subprocess.Popen[bytes]
    url: str
    start_s: float
    memory: list[int] = field(default_factory=list)
    peak_bytes: int = 0

    def read_memory(self) -> None:
        """Read the memory; never during a measurement, as the kernel walks all pages for it."""
        pid = self.process.pid
        if size := tree_bytes(pid):
            self.memory.append(size)
            self.peak_bytes = max(self.peak_bytes, tree_peak_bytes(pid))

    def pause(self) -> None:
        """Stop all its threads until `resume`."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def cpu_s(self) -> float:
        """CPU time of the process tree so far, in seconds."""
        total = 0.0
        for process in tree(self.process.pid):
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system
        return total


def tree(pid: int) -> list[psutil.Process]:
    """The process and its descendants; empty if the process is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def tree_bytes(pid: int) -> int:
    """Resident bytes of a process tree: the pages that each process has for itself, and once the
    largest set of shared pages. A plain sum of RSS would count shared libraries several times.
    """
    own = shared = 0
    for process in tree(pid):
        try:
            memory = process.memory_full_info()
        except psutil.Error:
            continue
        own += memory.uss
        shared = max(shared, memory.rss - memory.uss)
    return own + shared


def tree_peak_bytes(pid: int) -> int:
    """As `tree_bytes`, for the peak of each process, which the kernel records. Exact for a single
    process; too high for several processes whose peaks were at different times."""
    own = shared = 0
    for process in tree(pid):
        try:
            memory = process.memory_full_info()
            status = Path(f"/proc/{process.pid}/status").read_text()
        except (psutil.Error, OSError):
            continue
        peak = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
        if peak is None:  # the process has ended, and its parent has not yet collected it
            continue
        common = memory.rss - memory.uss
        own += int(peak.split()[1]) * 1024 - common
        shared = max(shared, common)
    return own + shared


def clean_environment() -> dict[str, str]:
    """This process's environment without a limit on threads, as a user would start an arm."""
    return {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}


@contextmanager
def started(
    command: Sequence[str],
    *,
    url: str,
    ready: str,
    log: Path,
    timeout_s: float,
    environment: Mapping[str, str],
) -> Iterator[Running]:
    """Run a server until the block ends; the block is entered when `url + ready` answers 200.

    Raises:
        StartFailed: the server exited, or was not ready within `timeout_s` seconds.
    """
    began = time.monotonic()
    with processes.running(
        command,
        ready_url=url + ready,
        log=log,
        timeout_s=timeout_s,
        environment=clean_environment() | dict(environment),
    ) as process:
        running = Running(process, url, time.monotonic() - began)
        running.read_memory()
        yield running
