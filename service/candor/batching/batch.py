"""How a batch is cut from the queue, and how an item that fails is isolated. Pure Python, no torch.

There is one budget and no timer (docs/design.md): a batch is whatever waits when a worker becomes
free, in the order of `candor.batching.queue`, until `max_batch_tokens` is reached. `cost` is the
engine's: padded for the plain forward, distinct tokens for a packed one.
"""

from __future__ import annotations

import traceback
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, islice, pairwise
from typing import TypeVar

from candor.item import BatchResult, Item, Score

T = TypeVar("T")


Outcome = tuple[Score | BaseException, int]
"""One item's score, or what the engine raised for it alone; its share of the computed tokens."""


def take_batch(
    waiting: Iterable[T], max_batch_tokens: int, cost: Callable[[Sequence[T]], int]
) -> list[T]:
    """What from the front of the queue makes the next batch.

    At least one when the queue is not empty: an item longer than the budget goes alone (the
    renderer has refused what the model cannot take at all). `cost` must not fall when an item is
    added; it is asked about doubling prefixes and then by bisection, as asking after every item is
    quadratic.
    """
    source = iter(waiting)
    taken = list(islice(source, 1))
    while more := list(islice(source, len(taken))):
        fits = len(taken)
        taken += more
        if cost(taken) > max_batch_tokens:
            sizes = range(fits + 1, len(taken) + 1)
            found = bisect_right(sizes, max_batch_tokens, key=lambda n: cost(taken[:n]))
            return taken[: fits + found]
    return taken


def score_isolated(
    score: Callable[[Sequence[Item]], BatchResult], items: Sequence[Item]
) -> list[Outcome]:
    """Scores a batch so that only the items that raise alone fail; one outcome an item, in order.

    What raises is halved and tried again. That finds one bad item among n in about 2 log n
    forwards, and a batch that does not fit in memory gets down to a size that does.

    Raises:
        SystemExit, KeyboardInterrupt: the engine wants the process to end.
    """
    try:
        result = score(items)
        if len(result.scores) != len(items):
            raise RuntimeError(f"{len(result.scores)} scores for {len(items)} items")
        return list(zip(result.scores, _shares(result.num_computed_tokens, items), strict=True))
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # a panic in a Rust extension is no Exception
        # Its frames hold the forward's tensors; a kept error must not keep them, nor the next try
        # find the memory full.
        traceback.clear_frames(error.__traceback__)
        if len(items) == 1:
            return [(error, 0)]
    half = len(items) // 2
    return score_isolated(score, items[:half]) + score_isolated(score, items[half:])


def _shares(total: int, items: Sequence[Item]) -> list[int]:
    """`total` divided in proportion to the items' tokens, in whole numbers that add up to it."""
    whole = sum(item.num_tokens for item in items)
    marks = [total * mark // whole for mark in accumulate(item.num_tokens for item in items)]
    return [mark - before for before, mark in pairwise([0, *marks])]
