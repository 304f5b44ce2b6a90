"""What waits for the model, and in which order it goes: by group, the oldest first.

A batch begins with the item that has waited longest and takes that item's whole group (everything
that waits with the same context) with it, then the next oldest item's, while they fit: the context
of a group is computed once also when a trainer sends its responses one by one and others come in
between. Nothing starves: each batch begins with the oldest item, and no item is overtaken by one
that came more than `MAX_OVERTAKE_S` after it. No threads, no clock.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import TypeVar

from candor.item import Item, Scored

T = TypeVar("T")

Costs = Callable[[Iterable[Item]], Iterator[int]]
"""`candor.item.Engine.costs`."""

MAX_OVERTAKE_S = 5.0
"""A trainer sends a group's responses within a second or so; who comes later waits his turn."""


@dataclass(slots=True, eq=False)
class Submission:
    """What one caller asked for: the items that still wait, and the scores that have come in."""

    num_items: int
    future: asyncio.Future[list[Scored]]
    deadline: float | None
    """On the monotonic clock."""
    waiting: set[Entry] = field(default_factory=set)
    scored: dict[int, Scored] = field(default_factory=dict)

    def give(self, index: int, scored: Scored) -> None:
        """Ends the submission with its last score, unless it has ended already."""
        self.scored[index] = scored
        if len(self.scored) == self.num_items and not self.future.done():
            self.future.set_result([self.scored[i] for i in range(self.num_items)])


@dataclass(slots=True, eq=False)
class Entry:
    """One item: number `index` of a submission that came at `queued_at` (monotonic)."""

    submission: Submission
    index: int
    item: Item
    queued_at: float


class Queue:
    """Waiting items, in order of arrival and by group. Every step is as long as what it moves."""

    def __init__(self) -> None:
        # Ordered by links, so that one leaves from the middle (its client gone) without a scan.
        self._waiting: OrderedDict[Entry, None] = OrderedDict()
        self._groups: dict[int, OrderedDict[Entry, None]] = {}
        self.num_tokens = 0
        self.num_distinct_tokens = 0
        """With the context of each group counted once."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Entry]:
        """In order of arrival."""
        return iter(self._waiting)

    @property
    def oldest(self) -> Entry | None:
        return next(iter(self._waiting), None)

    def add(self, entry: Entry) -> None:
        item = entry.item
        self._waiting[entry] = None
        group = self._groups.setdefault(item.context_key, OrderedDict())
        self.num_tokens += item.num_tokens
        self.num_distinct_tokens += item.num_tokens - (item.response_start if group else 0)
        group[entry] = None

    def discard(self, entry: Entry) -> None:
        """Takes `entry` out if it still waits."""
        if entry not in self._waiting:
            return
        item = entry.item
        group = self._groups[item.context_key]
        del self._waiting[entry], group[entry]
        self.num_tokens -= item.num_tokens
        self.num_distinct_tokens -= item.num_tokens - (item.response_start if group else 0)
        if not group:
            del self._groups[item.context_key]

    def take(self, enough: int, budget: int, costs: Costs) -> list[Entry]:
        """Takes the next batch out; empty when nothing waits.

        Args:
            enough: tokens above which no further group joins.
            budget: tokens of one forward; only a group that is larger is split.
            costs: the engine's `costs`, in which both are counted.
        """

        def prices(run: Iterable[tuple[int, Entry]]) -> Iterator[int]:
            return costs(entry.item for _, entry in run)

        run = take_batch(self._in_order(), min(enough, budget), prices)
        following = next(islice(self._in_order(), len(run), None), None)
        if following is not None and following[0] == run[-1][0]:
            # The last group came only in part: it stays whole for the next batch, unless it is the
            # first.
            cut = run[-1][0]
            run = [place for place in run if place[0] != cut] or take_batch(
                takewhile(lambda place: place[0] == 0, self._in_order()), budget, prices
            )
        batch = [entry for _, entry in run]
        for entry in batch:
            self.discard(entry)
        return batch

    def _in_order(self) -> Iterator[tuple[int, Entry]]:
        """Everything that waits as it would go, each with the number of its group's turn."""
        seen: set[Entry] = set()
        turn = 0
        for oldest in self._waiting:
            if oldest in seen:
                continue
            latest = oldest.queued_at + MAX_OVERTAKE_S
            for entry in self._groups[oldest.item.context_key]:
                if entry not in seen and entry.queued_at <= latest:
                    seen.add(entry)
                    yield turn, entry
            turn += 1


def take_batch(
    waiting: Iterable[T], max_batch_tokens: int, costs: Callable[[Iterable[T]], Iterator[int]]
) -> list[T]:
    """Takes the next batch from the front of what waits.

    At least one entry when anything waits: an item longer than the budget goes alone (the renderer
    has refused what the model cannot take at all).

    Args:
        max_batch_tokens: budget of one forward.
        costs: tokens of a forward over the first entry, the first two, and so on; never falling.
    """
    taken: list[T] = []

    def noted() -> Iterator[T]:
        for entry in waiting:
            taken.append(entry)
            yield entry

    for tokens in costs(noted()):
        if tokens > max_batch_tokens and len(taken) > 1:
            return taken[:-1]
    return taken
