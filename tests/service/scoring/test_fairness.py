"""A small request does not wait for another caller's long text or for their many texts.

Each case has its control: the same work in one thread without turns, where the small one waits.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time

import pytest

import candor.scoring.rewarder
import candor.text.lanes
from candor.scoring.rewarder import Rewarder
from candor.text.request import ChatMessage, Group, Messages, ScoringRequest, Text
from candor.watch.metrics import Metrics
from tests.service.serving import load_tiny, tiny_reward_model

SMALL = ScoringRequest((Group(Messages((ChatMessage("user", "Is it good?"),)), ("Yes.",)),))
LONG = ScoringRequest((Group(Text("The poem is about the sea. " * 14_000), ("Yes.",)),))
MANY = ScoringRequest(
    (Group(Messages((ChatMessage("user", "sea " * 700),)), tuple(map(str, range(4000)))),)
)


@pytest.fixture
def rewarder() -> Rewarder:
    """A server's rewarder with a window of 131,072 tokens. Nothing is scored."""
    made = load_tiny(Metrics())
    wide = dataclasses.replace(tiny_reward_model(), max_length=131_072)
    made._renderer = wide.renderer()
    return made


async def encode(rewarder: Rewarder, request: ScoringRequest) -> float:
    """Seconds until the request's texts are items."""
    began = time.monotonic()
    await rewarder._encode(request, time.monotonic() + 600)
    return time.monotonic() - began


async def waits(rewarder: Rewarder, other: ScoringRequest) -> tuple[float, float]:
    """Seconds that `other` takes, and the longest that a small request took meanwhile."""
    await encode(rewarder, SMALL)
    task = asyncio.create_task(encode(rewarder, other))
    await asyncio.sleep(0.02)
    worst = 0.0
    while not task.done():
        worst = max(worst, await encode(rewarder, SMALL))
        await asyncio.sleep(0.005)
    return await task, worst


@pytest.mark.parametrize("other", [LONG, MANY], ids=["one long text", "many texts"])
def test_a_small_request_waits_for_nobody(
    rewarder: Rewarder, other: ScoringRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    took, worst = asyncio.run(waits(rewarder, other))
    assert took > 0.2  # else the case shows nothing
    assert worst < took / 2
    monkeypatch.setattr(candor.text.lanes, "LONG_CHARS", 2**40)
    monkeypatch.setattr(candor.text.lanes, "TURN_S", 600.0)
    took, worst = asyncio.run(waits(rewarder, other))
    assert worst > took / 2
    rewarder.close()


def test_a_caller_who_is_gone_costs_no_more_steps(rewarder: Rewarder) -> None:
    async def leave() -> float:
        task = asyncio.create_task(encode(rewarder, MANY))
        await asyncio.sleep(0.05)
        task.cancel()
        return await encode(rewarder, SMALL)

    alone = asyncio.run(encode(rewarder, MANY))
    assert asyncio.run(leave()) < alone / 2
    rewarder.close()


@pytest.mark.parametrize("unit", ["a", " ", "sea ", "\U0001f30a"])
def test_a_text_of_megabytes_is_refused_in_the_time_of_one_window(
    rewarder: Rewarder, unit: str
) -> None:
    """2 MB at a window of 131,072 tokens took seconds. CPU time, because other tests run beside."""
    renderer, window = rewarder._renderer, "The sea. " * 15_000

    def seconds(text: str) -> float:
        began = time.process_time()
        try:
            renderer.encode(Text(text), "Yes.")
        except Exception as error:
            assert type(error).__name__ == "TooLong"  # noqa: PT017
        return time.process_time() - began

    assert seconds(unit * (4_000_000 // len(unit))) < 5 * seconds(window) + 0.2
    rewarder.close()
