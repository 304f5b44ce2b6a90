"""The time that workers are in use, as the dashboard's share of busy workers reads it."""

from __future__ import annotations

import asyncio
import time

from candor.batching.batcher import MIN_TOKENS_PER_WORKER, Batcher
from candor.batching.workers import Workers
from tests.service.batching.counting import CountingEngine, held, item, run, serving

LARGE = MIN_TOKENS_PER_WORKER


async def assert_in_use(batcher: Batcher, workers: int, seconds: float = 0.1) -> None:
    """That the time grows as it does with so many workers in use, to the clock's exactness."""
    outer = time.monotonic()
    before = batcher.busy_s
    inner = time.monotonic()
    await asyncio.sleep(seconds)
    shortest = time.monotonic() - inner
    grown = batcher.busy_s - before
    longest = time.monotonic() - outer
    assert workers * shortest <= grown + 1e-9
    assert grown <= workers * longest + 1e-9


def test_a_batch_counts_while_it_runs_and_not_only_when_it_ends() -> None:
    async def check() -> None:
        engine = CountingEngine()
        async with serving(engine, num_workers=2) as batcher:
            await assert_in_use(batcher, 0)
            task = await held(engine, batcher)
            await assert_in_use(batcher, 1)
            running = batcher.busy_s
            assert running > 0.1
            engine.free.set()
            await task
            assert batcher.busy_s >= running
            await assert_in_use(batcher, 0)

    run(check())


def test_batches_side_by_side_add_up_to_all_workers_and_no_more() -> None:
    async def check() -> None:
        engine = CountingEngine()
        async with serving(engine, num_workers=2, max_batch_tokens=LARGE) as batcher:
            engine.free.clear()
            items = [[item(n, LARGE, group=n)] for n in range(6)]
            tasks = [asyncio.create_task(batcher.submit(one, deadline=None)) for one in items]
            while len(engine.batches) < 2:
                await asyncio.sleep(0.001)
            await assert_in_use(batcher, 2)
            engine.free.set()
            await asyncio.gather(*tasks)

    run(check())


def test_a_batch_that_has_the_cores_of_all_workers_counts_as_all_of_them() -> None:
    async def check() -> None:
        engine = CountingEngine()
        async with serving(engine, num_workers=2, before_batch=lambda share: None) as batcher:
            task = await held(engine, batcher)
            await assert_in_use(batcher, 2)
            engine.free.set()
            await task

    run(check())


def test_the_time_never_falls_when_batches_are_given_up() -> None:
    workers = Workers(CountingEngine(), 2, None)
    workers.begin([], 1)
    workers.begin([], 1)
    time.sleep(0.02)
    before = workers.busy_s
    assert before >= 0.04
    workers.abandon()
    after = workers.busy_s
    assert after >= before
    assert workers.busy_s == after
    workers.close()
