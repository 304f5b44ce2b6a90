"""A queue far longer than its callers are patient, in scaled time: the forward sleeps, so that the
model scores two samples per second of a clock that runs `SPEED` times too fast."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from candor.batching.batcher import Batcher
from candor.errors import CandorError, Overloaded
from candor.item import BatchResult, Item
from candor.settings import Settings
from tests.service.batching.counting import CountingEngine, item, run, serving

SPEED = 200.0
TOKENS = 40
"""Tokens of a sample."""
RATE = 2.0
"""Samples per second."""
LIMIT_S = Settings(model="m").request_timeout_s
"""The server's time limit for callers that state none."""


class SlowEngine(CountingEngine):
    """Takes the same time for every token."""

    def __init__(self, speed: float = SPEED) -> None:
        super().__init__()
        self.speed = speed

    def score(self, items: Sequence[Item]) -> BatchResult:
        time.sleep(sum(item.num_tokens for item in items) / TOKENS / RATE / self.speed)
        return super().score(items)


async def warm(batcher: Batcher) -> None:
    """Has the batcher learn the engine's rate."""
    await batcher.submit([item(number, TOKENS) for number in range(100)], deadline=None)


async def openrlhf(batcher: Batcher, marker: int, limit_s: float) -> str:
    """One sample as OpenRLHF sends it: five tries of at most 180 s, one second apart, whatever
    `Retry-After` says. "answered", or the type of the last error."""
    outcome = ""
    for _ in range(5):
        try:
            async with asyncio.timeout(180.0 / SPEED):
                deadline = time.monotonic() + limit_s / SPEED
                await batcher.submit([item(marker, TOKENS)], deadline=deadline)
                return "answered"
        except CandorError as error:
            outcome = error.type
        except TimeoutError:
            outcome = "gave up"
        await asyncio.sleep(1.0 / SPEED)
    return outcome


def test_six_hundred_single_samples_of_openrlhf_are_answered_at_two_a_second() -> None:
    async def check() -> None:
        engine = SlowEngine()
        async with serving(engine, max_batch_tokens=8 * TOKENS) as batcher:
            await warm(batcher)
            # The queue is 300 s long, and a try lasts 180 s.
            tries = [openrlhf(batcher, 1000 + number, LIMIT_S) for number in range(600)]
            outcomes = Counter(await asyncio.gather(*tries))
        assert outcomes == {"answered": 600}
        # No sample was computed for a try that had been given up, but for those in the model then.
        assert len(engine.scored) - 100 <= 600 + 5 * 8

    run(check())


def test_a_time_limit_shorter_than_the_queue_refuses_at_once_and_openrlhf_loses_the_rest() -> None:
    """The control: what `--request-timeout-s 90` does to the same run."""

    async def check() -> None:
        async with serving(SlowEngine(), max_batch_tokens=8 * TOKENS) as batcher:
            await warm(batcher)
            tries = [openrlhf(batcher, 1000 + number, 90.0) for number in range(600)]
            outcomes = Counter(await asyncio.gather(*tries))
        assert outcomes["overloaded"] > 300
        assert outcomes["answered"] < 300

    run(check())


def test_four_thousand_single_samples_are_answered_to_callers_who_wait() -> None:
    async def check() -> None:
        speed = 2 * SPEED
        engine = SlowEngine(speed)
        limits = {
            "max_batch_tokens": 8 * TOKENS,
            "max_queue_tokens": Settings(model="m").max_queue_tokens,
        }
        async with serving(engine, **limits) as batcher:
            await warm(batcher)
            deadline = time.monotonic() + LIMIT_S / speed  # the queue is 2,048 s long
            submits = [
                batcher.submit([item(number, TOKENS)], deadline=deadline)
                for number in range(1000, 5096)
            ]
            began = time.monotonic()
            answers = await asyncio.gather(*submits)
            took_s = (time.monotonic() - began) * speed
        assert [one.score.base_reward for (one,) in answers] == [*range(1000, 5096)]
        assert took_s > 4096 / RATE  # the queue was as long as this test says

    run(check())


def test_what_cannot_be_scored_in_time_is_refused_with_the_predicted_wait() -> None:
    async def check() -> None:
        engine = SlowEngine()
        async with serving(engine, max_batch_tokens=8 * TOKENS) as batcher:
            await warm(batcher)
            now = time.monotonic()
            patient = [
                asyncio.create_task(batcher.submit([item(number, TOKENS)], deadline=None))
                for number in range(1000, 1800)
            ]
            await asyncio.sleep(0)
            # 800 samples are 400 s of the fast clock, and 2 s of the real one.
            with pytest.raises(Overloaded) as refused:
                await batcher.submit([item(9000, TOKENS)], deadline=now + 1.0)
            assert refused.value.retry_after_s in (2, 3)
            await batcher.submit([item(9001, TOKENS)], deadline=now + 6.0)
            await asyncio.gather(*patient)
        assert 9000 not in engine.scored
        assert engine.scored.count(9001) == 1

    run(check())


def test_every_admitted_caller_with_a_deadline_is_answered_before_it() -> None:
    """Twice the load that the model can score: what is admitted is not scored in vain."""

    async def check() -> None:
        engine = SlowEngine()
        outcomes: Counter[str] = Counter()
        async with serving(engine, max_batch_tokens=8 * TOKENS) as batcher:
            await warm(batcher)

            async def ask(marker: int) -> None:
                deadline = time.monotonic() + 0.2
                try:
                    await batcher.submit([item(marker, TOKENS)], deadline=deadline)
                    in_time = time.monotonic() <= deadline + 0.05
                    outcomes["answered" if in_time else "late"] += 1
                except CandorError as error:
                    outcomes[error.type] += 1

            tasks = []
            for number in range(400):  # 800 samples a second; the model scores 400
                tasks += [asyncio.create_task(ask(10_000 + 4 * number + i)) for i in range(4)]
                await asyncio.sleep(0.005)
            await asyncio.gather(*tasks)
        assert outcomes["overloaded"] > 200
        assert outcomes["answered"] > 200
        assert outcomes["late"] + outcomes["deadline_exceeded"] < 0.1 * outcomes["answered"]

    run(check())
