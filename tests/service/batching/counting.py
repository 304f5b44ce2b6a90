"""A stand-in for the forward that counts and can be held, and what the batcher's tests share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from candor.batching.batcher import Batcher
from candor.item import BatchResult, Item, Reading, Score, Scored

HANG_S = 20.0
"""Seconds. Reached only if a test hangs."""


class CountingEngine:
    """An item's score is its last token id. Records batches, can be held, and raises on demand."""

    name = "counting"

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.raises: dict[int, BaseException] = {}
        self.nan: set[int] = set()
        self.free = threading.Event()
        self.free.set()
        self.entered = threading.Event()
        self.concurrent = 0
        self.most_concurrent = 0

    def costs(self, items: Iterable[Item]) -> Iterator[int]:
        longest = 0
        for number, item in enumerate(items, start=1):
            longest = max(longest, item.num_tokens)
            yield number * longest

    def score(self, items: Sequence[Item]) -> BatchResult:
        self.concurrent += 1
        try:
            self.most_concurrent = max(self.most_concurrent, self.concurrent)
            self.threads.add(threading.get_ident())
            markers = [item.token_ids[-1] for item in items]
            self.batches.append(markers)
            self.entered.set()
            if not self.free.wait(HANG_S):
                raise AssertionError("never freed")
            for marker in markers:
                if marker in self.raises:
                    raise self.raises[marker]
            return BatchResult([self._one(marker) for marker in markers], [*self.costs(items)][-1])
        finally:
            self.concurrent -= 1

    def _one(self, marker: int) -> Score:
        reading = Reading(0.0, float("nan") if marker in self.nan else 0.0, 0.0)
        return Score(float(marker), {"probe": reading})

    @property
    def scored(self) -> list[int]:
        return [marker for batch in self.batches for marker in batch]


def item(marker: int, num_tokens: int = 10, group: int = 0) -> Item:
    ids = (group,) * (num_tokens - 1) + (marker,)
    return Item(token_ids=ids, response_start=num_tokens - 1, response_end=num_tokens)


def rewards(scored: Sequence[Scored]) -> list[float]:
    return [one.score.base_reward for one in scored]


def run(test: Coroutine[Any, Any, None]) -> None:
    async def within_time() -> None:
        async with asyncio.timeout(HANG_S):
            await test

    asyncio.run(within_time())


@asynccontextmanager
async def serving(engine: CountingEngine, **options: Any) -> AsyncIterator[Batcher]:
    options = {"max_batch_tokens": 80, "max_queue_tokens": 1_000_000} | options
    batcher = Batcher(engine, **options)
    batcher.start()
    try:
        yield batcher
    finally:
        engine.free.set()
        batcher.close()


async def held(engine: CountingEngine, batcher: Batcher, marker: int = 900) -> asyncio.Task[Any]:
    """Puts one item into the model, which waits for `engine.free`, so that later items queue."""
    engine.entered.clear()
    engine.free.clear()
    task = asyncio.create_task(batcher.submit([item(marker)], deadline=None))
    await asyncio.to_thread(engine.entered.wait, HANG_S)
    return task


async def queued(batcher: Batcher, *submissions: list[Item], **options: Any) -> list[Any]:
    """Submits items; returns the tasks once the items are in the queue."""
    tasks = []
    for items in submissions:
        deadline = options.get("deadline")
        tasks.append(asyncio.create_task(batcher.submit(items, deadline=deadline)))
        await asyncio.sleep(0)
    return tasks
