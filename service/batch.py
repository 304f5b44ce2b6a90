"""What the queue holds and what the engine answers, and how a batch is cut and isolated: pure
Python, no torch.

There is one budget and no timer (docs/design.md): a batch is whatever waits when a worker becomes
free, in the order of `service.queue`, until `max_batch_tokens` is reached. `cost` is the engine's:
padded for the plain forward, distinct tokens for a packed one.
"""

from __future__ import annotations

import hashlib
import math
import traceback
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice, pairwise
from typing import Protocol, TypeVar

from probes.prefix import sort_key

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Item:
    """One (context, response) pair, ready for the engine.

    `token_ids[response_start:response_end]` are the response's tokens, without the template's end
    token. The base reward is read at the last token, `token_ids[-1]`.
    """

    token_ids: tuple[int, ...]
    response_start: int
    response_end: int
    offsets: tuple[tuple[int, int], ...] = ()
    """Character span of each response token, relative to the response; empty unless asked for."""
    truncated: bool = False
    want_tokens: bool = False
    sort_key: bytes = field(init=False, repr=False, compare=False)
    """Of `token_ids`, made once: every batch that is tried asks for it (`probes.prefix`)."""
    context_key: int = field(init=False, repr=False, compare=False)
    """Equal for the items of one group. A chance collision puts strangers into one batch."""
    digest: bytes = field(init=False, repr=False, compare=False)
    """SHA-256 of everything that a score depends on: the ids and the response span."""

    def __post_init__(self) -> None:
        key = sort_key(self.token_ids)
        span = f"{self.response_start}:{self.response_end}".encode()
        object.__setattr__(self, "sort_key", key)
        object.__setattr__(self, "context_key", hash(key[: 4 * self.response_start]))
        object.__setattr__(self, "digest", hashlib.sha256(key + span).digest())

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one probe read off one response, in logits: the pooled score and two summaries."""

    score: float
    mean: float
    max: float
    token_logits: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """What the engine says of one item: the RM's raw scalar and every probe's reading by name."""

    base_reward: float
    readings: dict[str, Reading] = field(default_factory=dict)

    @property
    def is_finite(self) -> bool:
        """Whether every number in it can be answered; a NaN token makes its reading's mean NaN."""
        return math.isfinite(self.base_reward) and all(
            math.isfinite(value)
            for reading in self.readings.values()
            for value in (reading.score, reading.mean, reading.max)
        )


@dataclass(frozen=True, slots=True)
class BatchResult:
    """An engine's answer: one score an item, in order, and how many tokens it really computed."""

    scores: Sequence[Score]
    num_computed_tokens: int


Outcome = tuple[Score | BaseException, int]
"""One item's score, or what the engine raised for it alone; its share of the computed tokens."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One item's score and what it took.

    `queue_s` is from `submit` to the start of the item's batch, `forward_s` the time the model had
    that batch. `num_computed_tokens` is the item's share of the batch's; the shares add up to the
    whole. A score that was known already took no forward and no tokens.
    """

    score: Score
    queue_s: float
    forward_s: float
    num_computed_tokens: int


class Engine(Protocol):
    """What the batcher needs of an engine; nothing above this line knows which one runs."""

    name: str

    def cost(self, items: Sequence[Item]) -> int:
        """Tokens one forward over `items` would compute (padding included, shared tokens once)."""
        ...

    def score(self, items: Sequence[Item]) -> BatchResult:
        """Score `items` in one forward; several threads may call at once."""
        ...


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
