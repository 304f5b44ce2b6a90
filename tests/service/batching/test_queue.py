"""The order of the queue: whole groups, the oldest first, and no item starves."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor.batching.queue import MAX_OVERTAKE_S, Costs, Entry, Queue, Submission, take_batch
from candor.item import Item

CONTEXT = 10
RESPONSE = 5
BUDGET = 100


def entry(group: int, number: int, queued_at: float = 0.0, response: int = RESPONSE) -> Entry:
    ids = (group,) * CONTEXT + (1000 + number,) * response
    submission = Submission(1, future=None, deadline=None)  # type: ignore[arg-type]
    return Entry(submission, number, Item(ids, CONTEXT, len(ids)), queued_at)


def costs(items: Iterable[Item]) -> Iterator[int]:
    """Counts as a packed engine does: each context once."""
    total, contexts = 0, set()
    for item in items:
        context = item.token_ids[:CONTEXT]
        total += item.num_tokens - (CONTEXT if context in contexts else 0)
        contexts.add(context)
        yield total


def cost(items: Sequence[Item]) -> int:
    return [*costs(items)][-1]


def queue_of(entries: Sequence[Entry]) -> Queue:
    queue = Queue()
    for one in entries:
        queue.add(one)
    return queue


def numbers(entries: Sequence[Entry]) -> list[int]:
    return [one.index for one in entries]


def test_a_group_goes_together_although_others_came_in_between() -> None:
    entries = [entry(number % 4, number) for number in range(32)]
    queue = queue_of(entries)
    batch = queue.take(BUDGET, BUDGET, costs)
    assert numbers(batch) == [*range(0, 32, 4), *range(1, 32, 4)]
    assert cost([one.item for one in batch]) == 2 * (CONTEXT + 8 * RESPONSE) == BUDGET
    assert len(queue) == 16
    # Control: as many items in order of arrival would compute all four contexts.
    assert cost([one.item for one in entries[:16]]) == BUDGET + 2 * CONTEXT


def test_a_group_that_does_not_fit_whole_waits_for_the_next_batch() -> None:
    queue = queue_of([entry(0, n) for n in range(8)] + [entry(1, 10 + n) for n in range(12)])
    assert numbers(queue.take(BUDGET, BUDGET, costs)) == [*range(8)]
    assert numbers(queue.take(BUDGET, BUDGET, costs)) == [*range(10, 22)]
    assert queue.take(BUDGET, BUDGET, costs) == []


def test_only_a_group_above_the_budget_is_split() -> None:
    queue = queue_of([entry(0, n) for n in range(40)] + [entry(1, 100)])
    assert numbers(queue.take(BUDGET, BUDGET, costs)) == [*range(18)]
    assert numbers(queue.take(BUDGET, BUDGET, costs)) == [*range(18, 36)]
    assert numbers(queue.take(BUDGET, BUDGET, costs)) == [*range(36, 40), 100]


def test_above_enough_no_group_joins_but_the_first_is_still_whole() -> None:
    queue = queue_of([entry(group, 10 * group + n) for group in range(3) for n in range(8)])
    assert numbers(queue.take(60, BUDGET, costs)) == [*range(8)]
    assert numbers(queue.take(20, BUDGET, costs)) == [*range(10, 18)]


def test_who_comes_much_later_overtakes_nobody() -> None:
    late = MAX_OVERTAKE_S + 1
    queue = queue_of([entry(0, 0), entry(1, 1, 0.5), entry(0, 2, 1.0), entry(0, 3, late)])
    assert numbers(queue.take(1000, 1000, costs)) == [0, 2, 1, 3]
    queue = queue_of([entry(0, 0), entry(1, 1, 0.5), entry(0, 2, 1.0), entry(0, 3, late)])
    assert numbers(queue.take(30, 30, costs)) == [0, 2]
    assert numbers(queue.take(15, 15, costs)) == [1]
    assert numbers(queue.take(15, 15, costs)) == [3]


def test_an_entry_that_left_is_not_taken_and_its_tokens_are_not_counted() -> None:
    entries = [entry(0, 0), entry(0, 1), entry(1, 2)]
    queue = queue_of(entries)
    assert (queue.num_tokens, queue.num_distinct_tokens) == (45, 35)
    queue.discard(entries[0])
    queue.discard(entries[0])
    assert (queue.num_tokens, queue.num_distinct_tokens) == (30, 30)
    assert queue.oldest is entries[1]
    assert numbers(queue.take(BUDGET, BUDGET, costs)) == [1, 2]
    assert (len(queue), queue.num_tokens, queue.num_distinct_tokens) == (0, 0, 0)
    assert queue._groups == {}


arrivals = st.lists(
    st.tuples(st.integers(0, 5), st.floats(0, 4), st.integers(1, 60)), min_size=1, max_size=40
)


@given(arrivals=arrivals, budget=st.integers(20, 300), enough=st.integers(1, 300))
def test_taking_until_empty_serves_everyone_once_and_starves_nobody(
    arrivals: list[tuple[int, float, int]], budget: int, enough: int
) -> None:
    at = 0.0
    queue = Queue()
    for number, (group, pause, response) in enumerate(arrivals):
        at += pause
        queue.add(entry(group, number, at, response))
    assert queue.num_tokens == sum(CONTEXT + response for _, _, response in arrivals)
    served: list[Entry] = []
    while len(queue):
        oldest = queue.oldest
        batch = queue.take(enough, budget, costs)
        assert oldest in batch
        assert len(batch) == 1 or cost([one.item for one in batch]) <= budget
        waiting = [one.queued_at for one in queue]
        if waiting:
            assert max(one.queued_at for one in batch) <= min(waiting) + MAX_OVERTAKE_S
        served += batch
    assert sorted(numbers(served)) == [*range(len(arrivals))]
    assert (queue.num_tokens, queue.num_distinct_tokens) == (0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_little_more_than_a_batch_is_looked_at(seed: int) -> None:
    """Even when thousands of items wait: looking at all of them would block the event loop."""
    draw = random.Random(seed)
    queue = queue_of([entry(draw.randrange(50), number) for number in range(5000)])
    num_asked = 0

    def counted(items: Iterable[Item]) -> Iterator[int]:
        nonlocal num_asked
        for tokens in costs(items):
            num_asked += 1
            yield tokens

    taken = queue.take(500, 500, counted)
    # One more group may be looked at: the group that did not fit as a whole.
    assert num_asked <= 2 * len(taken) + 100


def plain(num_tokens: int, marker: int = 0) -> Item:
    ids = (marker,) + (7,) * (num_tokens - 1)
    return Item(token_ids=ids, response_start=0, response_end=num_tokens)


def padded(items: Iterable[Item]) -> Iterator[int]:
    longest = 0
    for number, item in enumerate(items, start=1):
        longest = max(longest, item.num_tokens)
        yield number * longest


def summed(items: Iterable[Item]) -> Iterator[int]:
    return accumulate(item.num_tokens for item in items)


def distinct(items: Iterable[Item]) -> Iterator[int]:
    """Counts as an engine that computes equal items once: adding an item is often free."""
    seen: set[tuple[int, ...]] = set()
    total = 0
    for item in items:
        total += 0 if item.token_ids in seen else item.num_tokens
        seen.add(item.token_ids)
        yield total


lengths = st.lists(st.integers(min_value=1, max_value=60), max_size=80)


@pytest.mark.parametrize("costs", [padded, summed, distinct])
@given(lengths=lengths, budget=st.integers(min_value=1, max_value=500))
def test_a_batch_is_the_longest_start_within_the_budget(
    costs: Costs, lengths: list[int], budget: int
) -> None:
    items = [plain(length) for length in lengths]
    fits = [number for number, tokens in enumerate(costs(items), 1) if tokens <= budget]
    expected = max([min(1, len(items)), *fits])
    assert take_batch(iter(items), budget, costs) == items[:expected]


@given(lengths=lengths, budget=st.integers(min_value=1, max_value=500))
def test_taking_until_empty_keeps_the_order_and_loses_nothing(
    lengths: list[int], budget: int
) -> None:
    items = [plain(length, marker) for marker, length in enumerate(lengths)]
    queue, served = list(items), []
    while queue:
        taken = take_batch(queue, budget, padded)
        assert taken
        served += taken
        queue = queue[len(taken) :]
    assert served == items
