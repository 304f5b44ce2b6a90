"""The items that wait for the model, and their order: by group, the oldest first.

A batch begins with the item that has waited longest, and takes that item's whole group: all waiting
items with the same context. Then it takes the group of the next oldest item, while groups fit. So
the context of a group is computed once, even if a trainer sends the group's responses one by one
with other items in between.

No item starves: each batch begins with the oldest item, and no item is overtaken by an item that
came more than `MAX_OVERTAKE_S` later, but by the few texts of the sentinel. This module has no
threads and no clock.
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
"""The type of `candor.item.Engine.costs`."""

MAX_OVERTAKE_S = 5.0
"""A trainer sends a group's responses within about a second. A response that comes later than this
waits in order of arrival."""


@dataclass(slots=True, eq=False)
class Submission:
    """The state of one `submit` call: the items that still wait, and the scores so far."""

    num_items: int
    future: asyncio.Future[list[Scored]]
    deadline: float | None
    """On the monotonic clock."""
    waiting: set[Entry] = field(default_factory=set)
    scored: dict[int, Scored] = field(default_factory=dict)

    def give(self, index: int, scored: Scored) -> None:
        """Stores one score. The last score ends the submission, unless it has ended already."""
        self.scored[index] = scored
        if len(self.scored) == self.num_items and not self.future.done():
            self.future.set_result([self.scored[i] for i in range(self.num_items)])


@dataclass(slots=True, eq=False)
class Entry:
    """One item in the queue: number `index` of a submission, which came at `queued_at` (monotonic
    clock)."""

    submission: Submission
    index: int
    item: Item
    queued_at: float


class Queue:
    """Waiting items, in order of arrival and by group. The time of each step is proportional to the
    number of items it moves."""

    def __init__(self) -> None:
        # An OrderedDict, so that an entry can leave the middle (its client left) without a scan.
        self._waiting: OrderedDict[Entry, None] = OrderedDict()
        self._groups: dict[int, OrderedDict[Entry, None]] = {}
        self.num_tokens = 0
        self.num_distinct_tokens = 0
        """Tokens that wait, with the context of each group counted once."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Entry]:
        """The entries in order of arrival."""
        return iter(self._waiting)

    @property
    def oldest(self) -> Entry | None:
        return next(iter(self._waiting), None)

    def add(self, entry: Entry, *, first: bool = False) -> None:
        """Puts `entry` behind all that wait; with `first`, before them."""
        item = entry.item
        self._waiting[entry] = None
        if first:
            self._waiting.move_to_end(entry, last=False)
        group = self._groups.setdefault(item.group_hash, OrderedDict())
        self.num_tokens += item.num_tokens
        self.num_distinct_tokens += item.num_tokens - (item.response_start if group else 0)
        group[entry] = None

    def discard(self, entry: Entry) -> None:
        """Removes `entry` if it still waits."""
        if entry not in self._waiting:
            return
        item = entry.item
        group = self._groups[item.group_hash]
        del self._waiting[entry], group[entry]
        self.num_tokens -= item.num_tokens
        self.num_distinct_tokens -= item.num_tokens - (item.response_start if group else 0)
        if not group:
            del self._groups[item.group_hash]

    def take(self, enough: int, budget: int, costs: Costs) -> list[Entry]:
        """Removes and returns the next batch; empty when nothing waits.

        Args:
            enough: number of tokens above which no further group joins.
            budget: most tokens of one forward. Only a group larger than this is split.
            costs: the engine's `costs`, which counts tokens as `enough` and `budget` do.
        """

        def prices(run: Iterable[tuple[int, Entry]]) -> Iterator[int]:
            return costs(entry.item for _, entry in run)

        run = take_batch(self._in_order(), min(enough, budget), prices)
        following = next(islice(self._in_order(), len(run), None), None)
        if following is not None and following[0] == run[-1][0]:
            # Only a part of the last group fits. The group waits for the next batch as a whole,
            # unless it is the first.
            last_turn = run[-1][0]
            run = [place for place in run if place[0] != last_turn] or take_batch(
                takewhile(lambda place: place[0] == 0, self._in_order()), budget, prices
            )
        batch = [entry for _, entry in run]
        for entry in batch:
            self.discard(entry)
        return batch

    def _in_order(self) -> Iterator[tuple[int, Entry]]:
        """All waiting entries in the order of scoring, each with its group's turn (0, 1, ...)."""
        seen: set[Entry] = set()
        turn = 0
        for oldest in self._waiting:
            if oldest in seen:
                continue
            latest = oldest.queued_at + MAX_OVERTAKE_S
            for entry in self._groups[oldest.item.group_hash]:
                if entry not in seen and entry.queued_at <= latest:
                    seen.add(entry)
                    yield turn, entry
            turn += 1


def take_batch(
    waiting: Iterable[T], max_batch_tokens: int, costs: Callable[[Iterable[T]], Iterator[int]]
) -> list[T]:
    """The next batch, from the front of `waiting`.

    It has at least one entry if any waits: an item longer than the budget is scored alone. (The
    renderer has refused texts longer than the model's window.)

    Args:
        max_batch_tokens: most tokens of one forward.
        costs: tokens of a forward over the first entry, over the first two, and so on; never
            decreasing.
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
