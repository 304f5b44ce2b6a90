"""The batcher's promises with several model threads, and how it divides the work among them."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from candor.batching.admission import Admission
from candor.batching.batcher import MIN_TOKENS_PER_WORKER, Batcher
from candor.errors import Draining, EngineFailed
from tests.service.batching.counting import (
    HANG_S,
    CountingEngine,
    held,
    item,
    queued,
    rewards,
    run,
    serving,
)

LARGE = MIN_TOKENS_PER_WORKER
"""Tokens of an item that gets a worker of its own."""


async def begun(engine: CountingEngine, number: int) -> None:
    """Waits until `number` batches are in the model."""
    while len(engine.batches) < number:
        await asyncio.sleep(0.001)


def two(engine: CountingEngine, **options: Any) -> Any:
    return serving(engine, num_workers=2, max_batch_tokens=100 * LARGE, **options)


def test_every_submit_gets_its_own_scores_from_four_workers() -> None:
    async def check() -> None:
        engine = CountingEngine()
        async with serving(engine, num_workers=4) as batcher:
            submissions = [
                [item(1000 + 3 * i + j, group=i % 7) for j in range(3)] for i in range(300)
            ]
            answers = await asyncio.gather(*(batcher.submit(s, deadline=None) for s in submissions))
            await batcher.drain()
        for items, answer in zip(submissions, answers, strict=True):
            assert rewards(answer) == [float(one.token_ids[-1]) for one in items]
        assert sorted(engine.scored) == [*range(1000, 1900)]

    run(check())


def test_what_waits_is_shared_among_the_workers() -> None:
    async def check() -> None:
        engine = CountingEngine()
        shares: list[int] = []
        async with two(engine, before_batch=shares.append) as batcher:
            engine.free.clear()
            items = [item(n, LARGE, group=n) for n in range(8)]
            task = asyncio.create_task(batcher.submit(items, deadline=None))
            await begun(engine, 2)
            assert engine.batches == [[0, 1, 2, 3], [4, 5]]
            engine.free.set()
            assert rewards(await task) == [*range(8)]
        assert shares[:2] == [1, 1]
        assert engine.most_concurrent == 2

    run(check())


def test_a_batch_that_is_all_there_is_has_the_machine_to_itself() -> None:
    async def check() -> None:
        engine = CountingEngine()
        shares: list[int] = []
        async with two(engine, before_batch=shares.append) as batcher:
            first = await held(engine, batcher)
            tasks = await queued(batcher, *([item(n, LARGE, group=n)] for n in range(4)))
            await asyncio.sleep(0.02)
            assert engine.batches == [[900]]
            engine.free.set()
            await asyncio.gather(first, *tasks)
        assert shares[0] == 2
        assert shares[1] == 1

    run(check())


def test_what_an_engine_shares_out_itself_is_joined_by_what_comes_later() -> None:
    async def check() -> None:
        engine = CountingEngine()
        async with two(engine) as batcher:
            first = await held(engine, batcher)
            tasks = await queued(batcher, *([item(n, LARGE, group=n)] for n in range(3)))
            await begun(engine, 2)
            assert [len(batch) for batch in engine.batches] == [1, 1]
            engine.free.set()
            await asyncio.gather(first, *tasks)
        assert engine.most_concurrent == 2

    run(check())


def test_the_rate_that_is_learnt_is_of_all_batches_side_by_side(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learnt: list[float] = []
    monkeypatch.setattr(Admission, "learn", lambda self, tokens, seconds: learnt.append(seconds))

    async def check() -> None:
        engine = CountingEngine()
        async with serving(engine, num_workers=4) as batcher:
            began = time.monotonic()
            engine.free.clear()
            items = [[item(n, LARGE, group=n)] for n in range(4)]
            tasks = [asyncio.create_task(batcher.submit(one, deadline=None)) for one in items]
            await begun(engine, 4)
            await asyncio.sleep(0.05)
            engine.free.set()
            await asyncio.gather(*tasks)
            took = time.monotonic() - began
        assert max(learnt) >= 0.05
        assert len(learnt) == 4
        assert sum(learnt) <= took

    run(check())


def test_small_work_is_not_cut_up_and_a_group_stays_whole() -> None:
    async def check() -> None:
        engine = CountingEngine()
        async with two(engine, before_batch=lambda share: None) as batcher:
            first = await held(engine, batcher)
            small = await queued(batcher, *([item(n, group=n)] for n in range(10)))
            engine.free.set()
            await asyncio.gather(first, *small)
            first = await held(engine, batcher)
            group = await queued(batcher, *([item(n, LARGE, group=1)] for n in range(10)))
            engine.free.set()
            await asyncio.gather(first, *group)
        assert engine.batches == [[900], [*range(10)], [900], [*range(10)]]

    run(check())


def test_a_batch_that_raises_leaves_the_neighbours_alone() -> None:
    async def check() -> None:
        engine = CountingEngine()
        engine.raises |= {marker: ValueError() for marker in range(4)}
        async with two(engine) as batcher:
            submits = [batcher.submit([item(n, LARGE, group=n)], deadline=None) for n in range(8)]
            answers = await asyncio.gather(*submits, return_exceptions=True)
            assert [type(answer) for answer in answers[:4]] == [EngineFailed] * 4
            assert [rewards(answer) for answer in answers[4:]] == [[n] for n in range(4, 8)]  # type: ignore[arg-type]
            assert batcher.alive

    run(check())


def test_one_stuck_worker_is_told_and_the_others_go_on() -> None:
    class OneStuck(CountingEngine):
        stuck = threading.Event()

        def score(self, items: Any) -> Any:
            if items[0].token_ids[-1] == 0:
                assert self.stuck.wait(HANG_S)
            return super().score(items)

    async def check() -> None:
        engine = OneStuck()
        async with two(engine, watchdog_s=0.05) as batcher:
            items = [[item(n, LARGE, group=n)] for n in range(4)]
            tasks = [asyncio.create_task(batcher.submit(one, deadline=None)) for one in items]
            while batcher.alive:
                await asyncio.sleep(0.005)
            later = await batcher.submit([item(77)], deadline=None)
            assert rewards(later) == [77.0]
            assert not tasks[0].done()
            drained = asyncio.create_task(batcher.drain())
            await asyncio.sleep(0.01)
            assert not drained.done()
            engine.stuck.set()
            await drained
            assert [rewards(task.result()) for task in tasks] == [[n] for n in range(4)]
            assert batcher.alive

    run(check())


def test_close_fails_what_every_worker_has() -> None:
    async def check() -> None:
        engine = CountingEngine()
        async with two(engine) as batcher:
            engine.free.clear()
            tasks = await queued(batcher, [item(n, LARGE, group=n) for n in range(6)], [item(7)])
            await begun(engine, 2)
            batcher.close()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(answer) for answer in answers] == [Draining] * 2

    run(check())


def test_a_worker_that_wants_to_exit_ends_all_and_no_submit_hangs() -> None:
    ended: list[int] = []

    async def ask(batcher: Batcher, marker: int) -> None:
        try:
            await batcher.submit([item(marker, LARGE, group=marker)], deadline=None)
        finally:
            ended.append(marker)

    async def check() -> None:
        engine = CountingEngine()
        engine.raises[0] = SystemExit(3)
        async with two(engine) as batcher:
            await asyncio.gather(*(ask(batcher, marker) for marker in range(6)))

    with pytest.raises(SystemExit):
        run(check())
    assert sorted(ended) == [*range(6)]
