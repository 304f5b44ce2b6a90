"""What a demo will do and how long it will take: said before it begins, and measured here.

A time from another machine would be a guess. So the demos time a few prompts as soon as their
servers run, and comparisons of many runs time the runs that have ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from candor.client import RewardClient
from candor.client.generator import AsyncGeneratorClient
from candor.jobs.running.files import Row, read_rows
from candor.jobs.running.progress import duration
from demo.commands import say

NUM_TIMED = 4
"""Prompts that are timed, all at once: the jobs too have several under way, and one alone takes
longer per prompt. One more comes before them, because a server's first answer is slow."""

ANSWER_S = 600.0
"""Longest wait for one answer of a server, in seconds."""


def say_plan(what: str, steps: Sequence[str], how_long: str) -> None:
    """Says what begins now: what it asks, its steps, and when its time is known."""
    say(what)
    for number, step in enumerate(steps, start=1):
        say(f"  {number} of {len(steps)}: {step}")
    say(how_long)


@dataclass(frozen=True)
class Pace:
    """Seconds per prompt, as measured on a few at once."""

    draw_s: float
    score_s: float

    def words(self, num_to_draw: int, num_to_score: int) -> str:
        """How long the rest takes, in a sentence."""
        left = num_to_draw * self.draw_s + num_to_score * self.score_s
        return (
            f"measured on {NUM_TIMED} prompts: drawing takes {self.draw_s:.1f} s per prompt and "
            f"scoring {self.score_s:.1f} s, so the {num_to_draw} prompts to draw and the "
            f"{num_to_score} to score take about {duration(left)}"
        )


def measure(
    generator_url: str,
    generator: str,
    reward_url: str,
    rows: Iterable[Row],
    n: int,
    **sampling: Any,
) -> Pace:
    """Draws and scores responses to `NUM_TIMED` prompts, and keeps only the time.

    Args:
        generator: name of the generator's model.
        rows: prompts that are none of the demo's own, so that no cache knows those; at least
            `1 + NUM_TIMED`.
        n: responses to each.
        sampling: temperature, max_tokens and stop.
    """

    async def draw(some: Sequence[Row], n: int) -> list[list[str]]:
        client = AsyncGeneratorClient(generator_url, model=generator, timeout_s=ANSWER_S)
        async with client:
            drawn = await asyncio.gather(
                *(
                    client.complete(
                        row["messages"], n=n, seed=0, prefix=row.get("response_prefix", ""),
                        **sampling,
                    )
                    for row in some
                )
            )  # fmt: skip
        return [[one.text for one in each] for each in drawn]

    def both(some: Sequence[Row], n: int) -> Pace:
        began = time.monotonic()
        drawn = asyncio.run(draw(some, n))
        between = time.monotonic()
        items = [
            {"messages": row["messages"], "responses": texts}
            for row, texts in zip(some, drawn, strict=True)
        ]
        with RewardClient(reward_url, timeout_s=ANSWER_S) as client:
            client.rewards(items, empty_response="score")
        ended = time.monotonic()
        return Pace((between - began) / len(some), (ended - between) / len(some))

    first, *timed = islice(rows, 1 + NUM_TIMED)
    both([first], 1)
    return both(timed, n)


def num_left(rows: int, out: Path) -> int:
    """How many of so many rows `out` does not hold yet."""
    if not out.exists():
        return rows
    return max(0, rows - sum("error" not in row for row in read_rows(out)))


def say_pace(out: Path, timed: Callable[[], Pace]) -> None:
    """Says how long the rest of a demo takes; nothing where all is scored.

    Args:
        out: folder of prompts.jsonl, and of rollouts.jsonl and scored.jsonl as far as they are.
        timed: measures the pace.
    """
    num_prompts = len(read_rows(out / "prompts.jsonl"))
    if left := num_left(num_prompts, out / "scored.jsonl"):
        say(timed().words(num_left(num_prompts, out / "rollouts.jsonl"), left))


class Steps:
    """Says which step of a plan begins, and how long the plan has taken so far."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock = total, clock
        self._at = 0
        self._began = clock()

    def begin(self) -> None:
        """The next step begins."""
        self._at += 1
        after = f", after {duration(self._clock() - self._began)}" if self._at > 1 else ""
        say(f"step {self._at} of {self._total}{after}")


class Runs:
    """Runs of about equal length, one after the other: says before each how long the rest takes,
    from the runs that have ended in this process."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock = total, clock
        self._begun = self._skipped = 0
        self._began = clock()

    def skip(self, name: str) -> None:
        """The next run had ended before."""
        self._begun += 1
        self._skipped += 1
        say(f"run {self._begun} of {self._total}, {name}: has ended already")

    def begin(self, name: str) -> None:
        """The next run begins."""
        done = self._begun - self._skipped
        if not done:
            self._began = self._clock()
        self._begun += 1
        left = self._total - self._begun + 1
        words = f"run {self._begun} of {self._total}, {name}"
        if done:
            each = (self._clock() - self._began) / done
            words += f": about {duration(left * each)} left ({duration(each)} per run so far)"
        say(words)
