"""Two threads that render and tokenise, so that nobody's text waits for everybody's.

Work on a request comes in steps (one response each). A thread works on the requests it has in
turns of a few milliseconds. A step that is long in itself, because one text is, goes to the other
thread: so a small request waits for a turn of each other request, and never for a long text.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

TURN_S = 0.005
"""Seconds that a thread works on one request before it goes on with the next one."""

LONG_CHARS = 32_768
"""Characters from which one text is a long one."""


@dataclass(slots=True)
class _Job:
    steps: Iterator[Any]
    done: list[Any] = field(default_factory=list)
    future: Future[list[Any]] = field(default_factory=Future)


class Lane:
    """One thread, and the requests that it works on in turns."""

    def __init__(self, name: str) -> None:
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._open = True
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def submit(self, steps: Iterator[T]) -> Future[list[T]]:
        """The outcomes of all steps, in order, or the error of the first step that raises. A
        cancelled future ends the work at the next step.

        Raises:
            RuntimeError: the lane is closed.
        """
        job = _Job(steps)
        with self._changed:
            if not self._open:
                raise RuntimeError("the tokeniser's threads have ended")
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Ends the thread after its present step. What waits is cancelled."""
        with self._changed:
            self._open = False
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._open and not self._jobs:
                    self._changed.wait()
                if not self._open:
                    for job in self._jobs:
                        job.future.cancel()
                    return
                job = self._jobs.popleft()
            if self._take_turn(job):
                with self._changed:
                    self._jobs.append(job)

    def _take_turn(self, job: _Job) -> bool:
        """Works on one request for a while. Whether there is more to do."""
        until = time.monotonic() + TURN_S
        try:
            for outcome in job.steps:
                job.done.append(outcome)
                if job.future.cancelled():
                    return False
                if time.monotonic() > until:
                    return True
        except BaseException as error:
            _resolve(job.future, error=error)
        else:
            _resolve(job.future, result=job.done)
        return False


def _resolve(
    future: Future[Any], *, result: Any = None, error: BaseException | None = None
) -> None:
    """Sets the outcome, unless the caller has gone."""
    if not future.set_running_or_notify_cancel():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


class Lanes:
    """The two threads: one for requests of short texts, one for requests with a long one."""

    def __init__(self) -> None:
        self._short = Lane("tokeniser")
        self._long = Lane("tokeniser-long")

    async def run(self, steps: Iterator[T], longest: int) -> list[T]:
        """The outcomes of all steps, in order.

        Args:
            longest: characters of the longest text that one step works on.
        """
        lane = self._long if longest > LONG_CHARS else self._short
        return await asyncio.wrap_future(lane.submit(steps))

    def close(self) -> None:
        """Ends the threads."""
        self._short.close()
        self._long.close()
