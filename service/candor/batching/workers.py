"""The model threads: run batches of one engine side by side, measure how long each batch has been
in the model, and isolate an item that makes a forward raise.

The batcher forms the batches and distributes their scores.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, pairwise

from candor.batching.queue import Entry
from candor.item import BatchResult, Engine, Item, Score

Outcome = tuple[Score | BaseException, int]
"""One item's score, or the exception that the engine raised for it alone; and the item's share of
the computed tokens."""


@dataclass(slots=True, eq=False)
class Batch:
    """The batch of one model thread, and the number of workers whose cores it may use."""

    entries: list[Entry]
    num_workers: int
    began: float
    forward_began: float | None = None
    """Start of the engine's current call, or None. Written by the model thread."""


class Workers:
    """Runs up to `num_workers` batches at once.

    Args:
        before_batch: called in the model thread with the number of workers whose cores the batch
            may use.
    """

    def __init__(
        self, engine: Engine, num_workers: int, before_batch: Callable[[int], None] | None
    ) -> None:
        self.num_workers = num_workers
        self._in_flight: list[Batch] = []
        self._ended_busy_s = 0.0
        self._engine = engine
        self._before_batch = before_batch
        self._threads = ThreadPoolExecutor(num_workers, thread_name_prefix="candor-model")

    @property
    def num_free(self) -> int:
        """Number of workers whose cores no batch uses."""
        return self.num_workers - sum(batch.num_workers for batch in self._in_flight)

    @property
    def num_tokens(self) -> int:
        """Tokens in the model now, as sent."""
        return sum(entry.item.num_tokens for entry in self.entries)

    @property
    def busy_for_s(self) -> float:
        """How long the longest of the engine's current calls has run; 0.0 without a call."""
        starts = [batch.forward_began for batch in self._in_flight]
        return max((time.monotonic() - start for start in starts if start is not None), default=0.0)

    @property
    def busy_s(self) -> float:
        """Seconds that workers have been in use since the start, added up over workers; the batches
        in flight count up to now. Never falls. Over a stretch of time it grows by at most that time
        times `num_workers`: a batch counts as many workers as it may use the cores of."""
        return self._ended_busy_s + self._used_s(self._in_flight)

    @property
    def idle(self) -> bool:
        """Whether no batch is in flight."""
        return not self._in_flight

    @property
    def entries(self) -> list[Entry]:
        """All entries in the model now."""
        return [entry for batch in self._in_flight for entry in batch.entries]

    def begin(self, entries: list[Entry], num_workers: int) -> Batch:
        """Makes a batch that is in flight from now on and uses the cores of `num_workers`."""
        batch = Batch(entries, num_workers, time.monotonic())
        self._in_flight.append(batch)
        return batch

    async def run(self, batch: Batch) -> list[Outcome]:
        """One outcome per entry, in order. The batch stays in flight until `end`.

        Raises:
            SystemExit, KeyboardInterrupt: the engine wants the process to end.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._score, batch)

    def end(self, batch: Batch) -> None:
        """Marks the batch as no longer in flight."""
        self._in_flight.remove(batch)
        self._ended_busy_s += self._used_s([batch])

    def abandon(self) -> None:
        """Marks all batches as no longer in flight. Scores that still come are not used."""
        self._ended_busy_s += self._used_s(self._in_flight)
        self._in_flight = []

    def close(self) -> None:
        """Ends the threads, without waiting for a forward that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def _used_s(batches: Sequence[Batch]) -> float:
        now = time.monotonic()
        return sum((now - batch.began) * batch.num_workers for batch in batches)

    def _score(self, batch: Batch) -> list[Outcome]:
        if self._before_batch is not None:
            self._before_batch(batch.num_workers)

        def forward(items: Sequence[Item]) -> BatchResult:
            batch.forward_began = time.monotonic()
            try:
                return self._engine.score(items)
            finally:
                batch.forward_began = None

        return score_isolated(forward, [entry.item for entry in batch.entries])


def score_isolated(
    score: Callable[[Sequence[Item]], BatchResult], items: Sequence[Item]
) -> list[Outcome]:
    """Scores a batch so that only items that raise on their own fail. One outcome per item, in
    order.

    A batch that raises is halved, and both halves are tried. A bad item among n is found in about
    2 log n forwards, and a batch that does not fit in memory is halved until it fits.

    Raises:
        SystemExit, KeyboardInterrupt: the engine wants the process to end.
    """
    try:
        result = score(items)
        if len(result.scores) != len(items):
            raise RuntimeError(f"{len(result.scores)} scores for {len(items)} items")
        return list(zip(result.scores, _shares(result.num_computed_tokens, items), strict=True))
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # a panic in a Rust extension is not an Exception
        # The error's frames hold the forward's tensors. They must be freed: the error is kept, and
        # the next try needs the memory.
        traceback.clear_frames(error.__traceback__)
        if len(items) == 1:
            return [(error, 0)]
    half = len(items) // 2
    return score_isolated(score, items[:half]) + score_isolated(score, items[half:])


def _shares(total: int, items: Sequence[Item]) -> list[int]:
    """`total` divided in proportion to the items' tokens: whole numbers that add up to `total`."""
    whole = sum(item.num_tokens for item in items)
    marks = [total * mark // whole for mark in accumulate(item.num_tokens for item in items)]
    return [mark - before for before, mark in pairwise([0, *marks])]
