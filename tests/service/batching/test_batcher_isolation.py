"""A batch that makes the forward raise: only the items that raise on their own fail."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor.batching.workers import score_isolated
from candor.item import BatchResult, Item, Score


def item(num_tokens: int, marker: int = 0) -> Item:
    ids = (marker,) + (7,) * (num_tokens - 1)
    return Item(token_ids=ids, response_start=0, response_end=num_tokens)


def padded(items: Sequence[Item]) -> int:
    return len(items) * max(item.num_tokens for item in items)


class Panic(BaseException):
    """Like a panic in a Rust extension: not an Exception."""


class MarkedEngine:
    """An item's score is its first token. Raises for a batch that holds a poisoned marker."""

    def __init__(self, poison: dict[int, BaseException], max_items: int = 10**9) -> None:
        self.poison = poison
        self.max_items = max_items
        self.batches: list[int] = []

    def score(self, items: Sequence[Item]) -> BatchResult:
        self.batches.append(len(items))
        if len(items) > self.max_items:
            raise MemoryError
        for one in items:
            if one.token_ids[0] in self.poison:
                raise self.poison[one.token_ids[0]]
        scores = [Score(float(one.token_ids[0])) for one in items]
        return BatchResult(scores, padded(items))


@given(
    num=st.integers(min_value=1, max_value=40),
    poisoned=st.sets(st.integers(min_value=0, max_value=39)),
)
def test_only_items_that_raise_alone_fail(num: int, poisoned: set[int]) -> None:
    errors: dict[int, BaseException] = {
        marker: Panic(marker) if marker % 2 else ValueError(marker) for marker in poisoned
    }
    outcomes = score_isolated(MarkedEngine(errors).score, [item(3, m) for m in range(num)])
    for marker, (score, _) in enumerate(outcomes):
        if marker in poisoned:
            assert score is errors[marker]
        else:
            assert score == Score(float(marker))
    assert len(outcomes) == num


def test_one_bad_item_among_many_is_found_in_a_logarithm_of_forwards() -> None:
    engine = MarkedEngine({77: ValueError()})
    outcomes = score_isolated(engine.score, [item(3, marker) for marker in range(128)])
    assert sum(isinstance(score, ValueError) for score, _ in outcomes) == 1
    assert len(engine.batches) == 1 + 2 * 7


def test_a_batch_too_large_for_memory_is_scored_in_parts() -> None:
    engine = MarkedEngine({}, max_items=4)
    outcomes = score_isolated(engine.score, [item(3, marker) for marker in range(10)])
    assert [score for score, _ in outcomes] == [Score(float(m)) for m in range(10)]


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collection")
def test_what_a_failed_forward_held_is_let_go_before_the_next_try_and_by_the_error() -> None:
    class Activations:
        pass

    held: list[weakref.ref[Activations]] = []
    alive_at_retry: list[bool] = []

    def score(items: Sequence[Item]) -> BatchResult:
        alive_at_retry.extend(ref() is not None for ref in held)
        activations = Activations()
        held.append(weakref.ref(activations))
        raise MemoryError

    outcomes = score_isolated(score, [item(1), item(1)])
    assert [type(error) for error, _ in outcomes] == [MemoryError, MemoryError]
    assert alive_at_retry == [False] * 3
    assert [ref() for ref in held] == [None] * 3


@pytest.mark.parametrize("exit_", [SystemExit, KeyboardInterrupt])
def test_a_wish_to_exit_is_not_swallowed(exit_: type[BaseException]) -> None:
    with pytest.raises(exit_):
        score_isolated(MarkedEngine({1: exit_()}).score, [item(2, 1)])


def test_an_engine_that_gives_too_few_scores_is_not_believed() -> None:
    def short(items: Sequence[Item]) -> BatchResult:
        return BatchResult([Score(1.0)] * (len(items) - 1), 0)

    outcomes = score_isolated(short, [item(2), item(2)])
    assert [type(score) for score, _ in outcomes] == [RuntimeError, RuntimeError]


@given(lengths=st.lists(st.integers(min_value=1, max_value=60), min_size=1, max_size=30))
def test_shares_of_the_computed_tokens_add_up(lengths: list[int]) -> None:
    items = [item(length) for length in lengths]
    outcomes = score_isolated(MarkedEngine({}).score, items)
    assert sum(share for _, share in outcomes) == padded(items)
