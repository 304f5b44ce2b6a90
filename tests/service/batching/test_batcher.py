"""The batcher's promises, with real threads and a real loop. Only the forward is a stand-in."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from candor.batching.batcher import Batcher
from candor.batching.observer import Observer
from candor.errors import (
    DeadlineExceeded,
    Draining,
    EngineFailed,
    NonFiniteScore,
    NotReady,
    Overloaded,
)
from candor.item import Item
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


class Panic(BaseException):
    """Like a panic in a Rust extension: not an Exception."""


class Log(Observer):
    """Records every notification."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def on_batch(
        self, num_items: int, num_tokens: int, num_computed_tokens: int, forward_s: float
    ) -> None:
        assert forward_s >= 0
        self.events.append(("batch", num_items, num_tokens, num_computed_tokens))

    def on_dequeue(self, queue_s: float) -> None:
        assert queue_s >= 0
        self.events.append(("dequeue",))

    def on_item_error(self, type: str) -> None:
        self.events.append(("item_error", type))

    def on_refused(self, type: str) -> None:
        self.events.append(("refused", type))

    def on_gone(self, num: int) -> None:
        self.events.append(("gone", num))


def test_five_hundred_concurrent_submits_get_their_own_scores_in_order() -> None:
    async def check() -> None:
        engine = CountingEngine()
        async with serving(engine) as batcher:
            submissions = [[item(1000 + 3 * i + j) for j in range(3)] for i in range(500)]
            answers = await asyncio.gather(*(batcher.submit(s, deadline=None) for s in submissions))
        for items, answer in zip(submissions, answers, strict=True):
            assert rewards(answer) == [float(one.token_ids[-1]) for one in items]
        assert engine.scored == [one.token_ids[-1] for items in submissions for one in items]
        assert len(engine.threads) == engine.most_concurrent == 1
        assert threading.get_ident() not in engine.threads

    run(check())


def test_a_batch_is_what_waited_while_the_model_was_busy() -> None:
    async def check() -> None:
        engine = CountingEngine()
        async with serving(engine) as batcher:
            first = await held(engine, batcher)
            tasks = await queued(batcher, *([item(i)] for i in range(11)))
            assert (batcher.num_queued_items, batcher.num_queued_tokens) == (11, 110)
            assert batcher.oldest_wait_s > 0
            engine.free.set()
            await asyncio.gather(first, *tasks)
        assert engine.batches == [[900], list(range(8)), [8, 9, 10]]
        assert (batcher.num_queued_items, batcher.num_queued_tokens, batcher.oldest_wait_s) == (
            0,
            0,
            0.0,
        )

    run(check())


def test_an_item_over_the_budget_goes_alone() -> None:
    async def check() -> None:
        engine = CountingEngine()
        async with serving(engine) as batcher:
            items = [item(1, group=1), item(2, 500, group=2), item(3, group=3)]
            assert rewards(await batcher.submit(items, deadline=None)) == [1.0, 2.0, 3.0]
        assert engine.batches == [[1], [2], [3]]

    run(check())


def test_no_items_is_no_work() -> None:
    async def check() -> None:
        engine = CountingEngine()
        async with serving(engine) as batcher:
            assert await batcher.submit([], deadline=None) == []
        assert engine.batches == []

    run(check())


def test_times_and_token_shares_come_with_the_scores() -> None:
    async def check() -> None:
        engine = CountingEngine()
        log = Log()
        async with serving(engine, observer=log) as batcher:
            scored = await batcher.submit([item(1, 10), item(2, 20)], deadline=None)
        assert sum(one.num_computed_tokens for one in scored) == 40
        assert [one.num_computed_tokens for one in scored] == [13, 27]
        assert all(one.queue_s >= 0 and one.forward_s >= 0 for one in scored)
        assert log.events == [("dequeue",), ("dequeue",), ("batch", 2, 30, 40)]

    run(check())


@pytest.mark.parametrize("error", [ValueError("x"), Panic("x"), MemoryError(), StopIteration()])
def test_a_raising_item_fails_alone_and_the_thread_lives(error: BaseException) -> None:
    async def check() -> None:
        engine = CountingEngine()
        engine.raises[3] = error
        log = Log()
        async with serving(engine, observer=log) as batcher:
            first = await held(engine, batcher)
            tasks = await queued(batcher, *([item(i)] for i in range(6)))
            engine.free.set()
            await first
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            after = await batcher.submit([item(7)], deadline=None)
        failed = answers.pop(3)
        assert isinstance(failed, EngineFailed)
        assert failed.item == 0
        assert failed.__cause__ is error
        assert type(error).__name__ in failed.message
        assert [rewards(answer) for answer in answers] == [[0.0], [1.0], [2.0], [4.0], [5.0]]
        assert rewards(after) == [7.0]
        assert len(engine.threads) == 1
        assert ("item_error", "engine_failed") in log.events

    run(check())


def test_a_submit_fails_as_a_whole_and_its_waiting_items_are_dropped() -> None:
    async def check() -> None:
        engine = CountingEngine()
        engine.raises[1] = ValueError()
        async with serving(engine) as batcher:
            with pytest.raises(EngineFailed) as caught:
                await batcher.submit([item(i) for i in range(100)], deadline=None)
            assert caught.value.item == 1
            assert (batcher.num_queued_items, batcher.num_queued_tokens) == (0, 0)
            assert rewards(await batcher.submit([item(200)], deadline=None)) == [200.0]
        assert max(marker for marker in engine.scored if marker < 100) == 7

    run(check())


def test_nan_fails_its_own_submit_and_the_neighbours_are_answered() -> None:
    async def check() -> None:
        engine = CountingEngine()
        engine.nan.add(2)
        async with serving(engine) as batcher:
            first = await held(engine, batcher)
            tasks = await queued(batcher, [item(1)], [item(5), item(2)], [item(3)])
            engine.free.set()
            await first
            answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert engine.batches[1] == [1, 5, 2, 3]
        assert rewards(answers[0]) == [1.0]
        assert isinstance(answers[1], NonFiniteScore)
        assert answers[1].item == 1
        assert rewards(answers[2]) == [3.0]

    run(check())


def test_a_client_that_is_gone_is_never_scored() -> None:
    async def check() -> None:
        engine = CountingEngine()
        log = Log()
        async with serving(engine, observer=log) as batcher:
            first = await held(engine, batcher)
            tasks = await queued(batcher, [item(1)], [item(2), item(3)], [item(4)])
            tasks[1].cancel()
            await asyncio.wait([tasks[1]])
            assert (batcher.num_queued_items, batcher.num_queued_tokens) == (2, 20)
            engine.free.set()
            await asyncio.gather(first, tasks[0], tasks[2])
        assert engine.scored == [900, 1, 4]
        assert ("gone", 2) in log.events

    run(check())


def test_a_client_that_leaves_while_in_the_model_harms_nobody() -> None:
    async def check() -> None:
        engine = CountingEngine()
        async with serving(engine) as batcher:
            first = await held(engine, batcher)
            first.cancel()
            await asyncio.wait([first])
            tasks = await queued(batcher, [item(1)])
            engine.free.set()
            assert rewards(await tasks[0]) == [1.0]

    run(check())


def test_clients_that_come_and_go_leave_nothing_behind() -> None:
    async def check() -> None:
        engine = CountingEngine()
        async with serving(engine) as batcher:
            first = await held(engine, batcher)
            for i in range(200):
                (task,) = await queued(batcher, [item(i)] * 50)
                task.cancel()
                await asyncio.wait([task])
            assert (batcher.num_queued_items, batcher.num_queued_tokens) == (0, 0)
            assert len(batcher._queue) == 0
            engine.free.set()
            await first
            await batcher.drain()
        assert engine.scored == [900]

    run(check())


def test_overload_is_refused_whole_and_says_when_to_come_back() -> None:
    async def check() -> None:
        engine = CountingEngine()
        log = Log()
        async with serving(engine, max_queue_tokens=100, observer=log) as batcher:
            first = await held(engine, batcher)
            tasks = await queued(batcher, [item(i) for i in range(8)])
            with pytest.raises(Overloaded) as caught:
                await batcher.submit([item(20), item(21), item(22)], deadline=None)
            assert caught.value.retryable
            assert caught.value.retry_after_s is not None
            assert caught.value.retry_after_s >= 1
            assert (batcher.num_queued_items, batcher.num_queued_tokens) == (8, 80)
            tasks += await queued(batcher, [item(30), item(31)])
            engine.free.set()
            await asyncio.gather(first, *tasks)
        assert not {20, 21, 22} & set(engine.scored)
        assert {30, 31} <= set(engine.scored)
        assert ("refused", "overloaded") in log.events

    run(check())


def test_what_goes_first_overtakes_a_full_queue_and_is_refused_by_nothing() -> None:
    async def check() -> None:
        engine = CountingEngine()
        async with serving(engine, max_queue_tokens=100, max_batch_tokens=20) as batcher:
            first = await held(engine, batcher)
            waiting = await queued(batcher, [item(i, group=i) for i in range(1, 11)])
            deadline = time.monotonic() + HANG_S
            with pytest.raises(Overloaded):
                await batcher.submit([item(100)], deadline=deadline)
            sentinel = asyncio.create_task(
                batcher.submit(
                    [item(101, group=50), item(102, group=51)], deadline=deadline, first=True
                )
            )
            await asyncio.sleep(0)
            assert batcher.num_queued_tokens == 120
            engine.free.set()
            assert rewards(await sentinel) == [101.0, 102.0]
            await asyncio.gather(first, *waiting)
        assert engine.batches[:3] == [[900], [101, 102], [1, 2]]
        with pytest.raises(Draining):
            await batcher.submit([item(1)], deadline=None, first=True)

    run(check())


def test_a_submission_larger_than_the_queue_is_taken_when_nothing_waits() -> None:
    async def check() -> None:
        engine = CountingEngine()
        async with serving(engine, max_queue_tokens=100) as batcher:
            items = [item(i) for i in range(50)]
            assert rewards(await batcher.submit(items, deadline=None)) == list(range(50))

    run(check())


def test_a_deadline_that_passes_in_the_queue_is_not_scored() -> None:
    async def check() -> None:
        engine = CountingEngine()
        log = Log()
        async with serving(engine, observer=log) as batcher:
            first = await held(engine, batcher)
            (late,) = await queued(batcher, [item(1)], deadline=time.monotonic() + 0.02)
            (patient,) = await queued(batcher, [item(2)], deadline=time.monotonic() + HANG_S)
            await asyncio.sleep(0.04)
            engine.free.set()
            await first
            with pytest.raises(DeadlineExceeded):
                await late
            assert rewards(await patient) == [2.0]
        assert engine.scored == [900, 2]
        assert ("item_error", "deadline_exceeded") in log.events

    run(check())


def test_a_deadline_that_has_passed_is_refused_at_admission() -> None:
    async def check() -> None:
        engine = CountingEngine()
        log = Log()
        async with serving(engine, observer=log) as batcher:
            with pytest.raises(DeadlineExceeded):
                await batcher.submit([item(1)], deadline=time.monotonic())
        assert engine.batches == []
        assert log.events == [("refused", "deadline_exceeded")]

    run(check())


def test_drain_finishes_accepted_work_and_refuses_new() -> None:
    async def check() -> None:
        engine = CountingEngine()
        async with serving(engine) as batcher:
            first = await held(engine, batcher)
            tasks = await queued(batcher, *([item(i)] for i in range(20)))
            drained = asyncio.create_task(batcher.drain())
            await asyncio.sleep(0)
            with pytest.raises(Draining) as caught:
                await batcher.submit([item(99)], deadline=None)
            assert caught.value.retry_after_s is not None
            assert not drained.done()
            engine.free.set()
            await drained
            assert all(task.done() for task in [first, *tasks])
            assert [rewards(task.result()) for task in tasks] == [[float(i)] for i in range(20)]
        assert 99 not in engine.scored

    run(check())


def test_drain_of_an_idle_batcher_returns() -> None:
    async def check() -> None:
        async with serving(CountingEngine()) as batcher:
            await batcher.drain()

    run(check())


def test_close_fails_what_waits_and_what_is_in_the_model() -> None:
    async def check() -> None:
        engine = CountingEngine()
        async with serving(engine) as batcher:
            first = await held(engine, batcher)
            tasks = await queued(batcher, [item(1)], [item(2)])
            batcher.close()
            answers = await asyncio.gather(first, *tasks, return_exceptions=True)
            assert [type(answer) for answer in answers] == [Draining] * 3
            assert not batcher.alive
            await batcher.drain()

    run(check())


def test_before_start_nothing_is_accepted() -> None:
    async def check() -> None:
        batcher = Batcher(CountingEngine(), max_batch_tokens=80, max_queue_tokens=100)
        assert not batcher.alive
        with pytest.raises(NotReady):
            await batcher.submit([item(1)], deadline=None)

    run(check())


def test_a_forward_that_takes_too_long_makes_it_not_alive_until_it_returns() -> None:
    async def check() -> None:
        engine = CountingEngine()
        async with serving(engine, watchdog_s=0.02) as batcher:
            assert batcher.alive
            assert batcher.busy_for_s == 0.0
            first = await held(engine, batcher)
            while batcher.alive:
                await asyncio.sleep(0.005)
            assert batcher.busy_for_s > 0.02
            engine.free.set()
            await first
            assert batcher.alive
            assert batcher.busy_for_s == 0.0

    run(check())


def test_an_engine_that_wants_to_exit_ends_the_loop_and_no_submit_hangs() -> None:
    ended: list[int] = []

    async def ask(batcher: Batcher, marker: int) -> None:
        try:
            await batcher.submit([item(marker)], deadline=None)
        finally:
            ended.append(marker)

    async def check() -> None:
        engine = CountingEngine()
        engine.raises[900] = SystemExit(3)
        engine.free.clear()
        batcher = Batcher(engine, max_batch_tokens=10, max_queue_tokens=100)
        batcher.start()
        tasks = [asyncio.create_task(ask(batcher, marker)) for marker in (900, 1, 2)]
        await asyncio.to_thread(engine.entered.wait, HANG_S)
        engine.free.set()
        await asyncio.gather(*tasks)

    with pytest.raises(SystemExit):
        run(check())
    assert sorted(ended) == [1, 2, 900]


def test_a_bug_in_the_engines_cost_fails_every_submit_instead_of_hanging() -> None:
    class NoCost(CountingEngine):
        def costs(self, items: Iterable[Item]) -> Iterator[int]:
            raise ZeroDivisionError

    async def check() -> None:
        batcher = Batcher(NoCost(), max_batch_tokens=80, max_queue_tokens=1000)
        batcher.start()
        submits = [batcher.submit([item(i)], deadline=None) for i in range(3)]
        answers = await asyncio.gather(*submits, return_exceptions=True)
        assert [type(answer) for answer in answers] == [EngineFailed] * 3
        assert not batcher.alive
        with pytest.raises(NotReady):
            await batcher.submit([item(1)], deadline=None)
        with pytest.raises(ZeroDivisionError):
            await batcher._runner  # type: ignore[misc]
        batcher.close()

    run(check())


def test_a_failure_in_the_model_thread_of_one_batch_leaves_the_next_batch_whole() -> None:
    async def check() -> None:
        engine = CountingEngine()
        engine.raises |= {marker: Panic(marker) for marker in range(8)}
        async with serving(engine) as batcher:
            first = await held(engine, batcher)
            doomed = await queued(batcher, *([item(i)] for i in range(8)))
            fine = await queued(batcher, *([item(i)] for i in range(8, 16)))
            engine.free.set()
            await first
            bad = await asyncio.gather(*doomed, return_exceptions=True)
            good = await asyncio.gather(*fine)
        assert [type(answer) for answer in bad] == [EngineFailed] * 8
        assert [rewards(answer) for answer in good] == [[float(i)] for i in range(8, 16)]

    run(check())
