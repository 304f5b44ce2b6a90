"""How far a job is, on stderr: a bar on a terminal, plain lines elsewhere.

A log of a cluster, of CI or of a container keeps lines. The first comes at once, the next when
`FIRST_LINE_S` seconds have passed, and then whenever the time has doubled, at least once in
`LONGEST_SILENCE_S` if anything was done.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TextIO

FIRST_LINE_S = 5.0
LONGEST_SILENCE_S = 60.0


class Progress(Protocol):
    """Counts what is done."""

    def update(self, n: int = 1, /) -> object:
        """So many more are done."""


class PlainProgress:
    """Says in lines how far a job is.

    Args:
        what: what is done to them, such as "scores".
        unit: one of them, such as "row".
        clock: seconds that only go on.
    """

    def __init__(
        self,
        total: int,
        what: str,
        unit: str,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._what, self._unit = total, what, unit
        self._stream, self._clock = stream, clock
        self._began = clock()
        self._next_s = FIRST_LINE_S
        self._done = 0
        self._say(f"{total} {unit}s to do")

    def update(self, n: int = 1, /) -> None:
        self._done += n
        elapsed = self._clock() - self._began
        if elapsed < self._next_s:
            return
        while self._next_s <= elapsed:
            self._next_s += min(self._next_s, LONGEST_SILENCE_S)
        rate = self._done / elapsed
        left = max(self._total - self._done, 0) / rate if rate > 0 else 0.0
        self._say(
            f"{self._done} of {self._total} {self._unit}s, {rate:.3g} per s, about "
            f"{duration(left)} left"
        )

    def end(self) -> None:
        """The job has ended, finished or not."""
        elapsed = self._clock() - self._began
        self._say(f"{self._done} of {self._total} {self._unit}s in {duration(elapsed)}")

    def _say(self, words: str) -> None:
        print(f"candor: {self._what}: {words}", file=self._stream, flush=True)


def duration(seconds: float) -> str:
    """`42 s`, `7 min` or `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def say(words: str) -> None:
    """Says what begins now, where the next line may be minutes away."""
    print(f"candor: {words}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress(total: int, what: str, unit: str) -> Iterator[Progress]:
    """Shows on stderr how many of `total` are done, until the block ends."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, desc=what, unit=unit, file=sys.stderr) as bar:
            yield bar
        return
    plain = PlainProgress(total, what, unit, sys.stderr)
    try:
        yield plain
    finally:
        plain.end()
