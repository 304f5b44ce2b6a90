"""What an engine is given and what it answers. Pure Python, no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from candor.forward.prefix import sort_key


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
    """Of `token_ids`, made once: every batch that is tried asks for it
    (`candor.forward.prefix`)."""
    context_key: int = field(init=False, repr=False, compare=False)
    """Equal for the items of one group. A chance collision puts strangers into one batch."""

    def __post_init__(self) -> None:
        key = sort_key(self.token_ids)
        object.__setattr__(self, "sort_key", key)
        object.__setattr__(self, "context_key", hash(key[: 4 * self.response_start]))

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


@dataclass(frozen=True, slots=True)
class Scored:
    """One item's score and what it took.

    `queue_s` is from `submit` to the start of the item's batch, `forward_s` the time the model had
    that batch. `num_computed_tokens` is the item's share of the batch's; the shares add up to the
    whole.
    """

    score: Score
    queue_s: float
    forward_s: float
    num_computed_tokens: int


class Engine(Protocol):
    """What the server needs of an engine; nothing above this line knows which engine runs."""

    name: str

    @property
    def alive(self) -> bool:
        """False once the engine can score nothing any more."""
        return True

    def costs(self, items: Iterable[Item]) -> Iterator[int]:
        """Tokens that one forward over the first item would compute, over the first two, and so on:
        padding included, shared tokens once. Items are taken from `items` one at a time."""
        ...

    def score(self, items: Sequence[Item]) -> BatchResult:
        """Scores `items` in one forward; several threads may call at once."""
        ...

    def forget(self) -> None:
        """Drops what was kept of earlier forwards: the model's numbers are in doubt."""
        return None

    def close(self) -> None:
        """Lets go of what the engine holds. Nothing may be scored afterwards."""
        return None
