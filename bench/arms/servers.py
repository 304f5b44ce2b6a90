"""The arms' processes: started one after the other, stopped in their tracks while another is
measured, their memory read.

A server that only idles still takes time from a machine of two cores (spinning threads, health
checks); one that got SIGSTOP takes none, and keeps its caches and its memory.
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
    """One started server.

    Attributes:
        process: leader of a process group of its own.
        url: without a trailing slash; empty for one that speaks over pipes.
        start_s: from the start of the process to the first good answer.
        memory: bytes of the process tree whenever it was read, see `tree_bytes`.
        peak_bytes: the most there was up to the last reading, see `tree_peak_bytes`.
    """

    process: subprocess.Popen[bytes]
    url: str
    start_s: float
    memory: list[int] = field(default_factory=list)
    peak_bytes: int = 0

    def read_memory(self) -> None:
        """Not while it is being measured: the kernel walks all its pages for this."""
        pid = self.process.pid
        if size := tree_bytes(pid):
            self.memory.append(size)
            self.peak_bytes = max(self.peak_bytes, tree_peak_bytes(pid))

    def pause(self) -> None:
        """Takes every core from it until `resume`."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def cpu_s(self) -> float:
        """CPU time of the whole tree so far."""
        total = 0.0
        for process in tree(self.process.pid):
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system
        return total


def tree(pid: int) -> list[psutil.Process]:
    """The process and all below it; empty if it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def tree_bytes(pid: int) -> int:
    """Resident bytes of a process tree: every process's own pages, and the largest share of common
    ones once. Plain sums of RSS count the libraries of a server of several processes several times.
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
    """The same for the most that each process has had, which the kernel keeps: exact for one
    process, too much for several that did not have it at one time."""
    own = shared = 0
    for process in tree(pid):
        try:
            memory = process.memory_full_info()
            status = Path(f"/proc/{process.pid}/status").read_text()
        except (psutil.Error, OSError):
            continue
        peak = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
        if peak is None:  # it has ended, and is not yet collected
            continue
        common = memory.rss - memory.uss
        own += int(peak.split()[1]) * 1024 - common
        shared = max(shared, common)
    return own + shared


def clean_environment() -> dict[str, str]:
    """This process's environment without a bound on threads: each arm starts as its users start
    it."""
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
    """A server from its start until the block ends; entered when `url + ready` answers 200.

    Raises:
        StartFailed: it exited, or was not ready within `timeout_s` seconds.
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
