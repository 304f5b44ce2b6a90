"""The model threads: they run batches of one engine side by side and know how long each has been at
it. What a batch is made of, and what becomes of its scores, is the batcher's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from candor.batching.batch import Outcome, score_isolated
from candor.batching.queue import Entry
from candor.item import BatchResult, Engine, Item


@dataclass(slots=True, eq=False)
class Batch:
    """What one model thread has, and how many workers' share of the machine it may use."""

    entries: list[Entry]
    workers: int
    began: float
    forward_began: float | None = None
    """Of the engine's current call; written by the model thread."""


class Workers:
    """Up to `number` batches at once.

    Args:
        before_batch: called in the model thread with the batch's share of the machine.
    """

    def __init__(
        self, engine: Engine, number: int, before_batch: Callable[[int], None] | None
    ) -> None:
        self.number = number
        self.in_flight: list[Batch] = []
        self._engine = engine
        self._before_batch = before_batch
        self._threads = ThreadPoolExecutor(number, thread_name_prefix="candor-model")

    @property
    def free(self) -> int:
        """Workers' shares of the machine that no batch uses."""
        return self.number - sum(batch.workers for batch in self.in_flight)

    @property
    def num_tokens(self) -> int:
        """In the model now, as sent."""
        return sum(entry.item.num_tokens for batch in self.in_flight for entry in batch.entries)

    @property
    def busy_for_s(self) -> float:
        """How long the engine has been in the longest of its current calls; 0.0 without any."""
        began = [batch.forward_began for batch in self.in_flight]
        return max((time.monotonic() - one for one in began if one is not None), default=0.0)

    def begin(self, entries: list[Entry], share: int) -> Batch:
        """A batch that counts as in flight from now on."""
        batch = Batch(entries, share, time.monotonic())
        self.in_flight.append(batch)
        return batch

    async def run(self, batch: Batch) -> list[Outcome]:
        """One outcome an entry, in order. The batch stays in flight.

        Raises:
            SystemExit, KeyboardInterrupt: the engine wants the process to end.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._score, batch)

    def close(self) -> None:
        """Lets the threads go; a forward that hangs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _score(self, batch: Batch) -> list[Outcome]:
        if self._before_batch is not None:
            self._before_batch(batch.workers)

        def forward(items: Sequence[Item]) -> BatchResult:
            batch.forward_began = time.monotonic()
            try:
                return self._engine.score(items)
            finally:
                batch.forward_began = None

        return score_isolated(forward, [entry.item for entry in batch.entries])
