"""Finding the response in a long text does not hold up the event loop, and so the other callers."""

from __future__ import annotations

import asyncio
import time

from candor.trainers.contract import Flat
from candor.trainers.options import TrainerRoutes
from candor.trainers.translate import groups_of, to_groups
from candor.watch.metrics import Metrics
from tests.service.serving import load_tiny

SETTINGS = TrainerRoutes()


async def longest_pause(work: asyncio.Task[object]) -> float:
    """The longest time, in seconds, for which the loop did nothing else until `work` was done."""
    longest, last = 0.0, time.monotonic()
    while not work.done():
        await asyncio.sleep(0.001)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    await work
    return longest


def test_six_million_characters_of_end_marks_leave_the_loop_free() -> None:
    rewarder = load_tiny(Metrics())
    marks = rewarder.marks
    text = Flat(f"Is it good?{marks.header}Yes." + marks.end * (6_000_000 // len(marks.end)))

    async def in_the_loop() -> None:  # the control
        to_groups(text, 0, rewarder, SETTINGS, spans_needed=True)

    async def in_steps() -> list[object]:
        return [*await groups_of([text], rewarder, SETTINGS, spans_needed=True)]

    async def measured() -> tuple[float, float]:
        blocked = await longest_pause(asyncio.create_task(in_the_loop()))
        return blocked, await longest_pause(asyncio.create_task(in_steps()))

    blocked, paused = asyncio.run(measured())
    expected = to_groups(text, 0, rewarder, SETTINGS, spans_needed=True)
    found = asyncio.run(groups_of([text], rewarder, SETTINGS, spans_needed=True))
    rewarder.close()
    assert found == [expected]
    assert expected[0].responses == ("Yes.",)
    assert paused < blocked / 2
