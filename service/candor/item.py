"""The types that an engine takes and returns: `Item` in, `Score` out. Pure Python, no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from candor.forward.prefix import sort_key

if TYPE_CHECKING:
    from candor.probes.probe import Probe


@dataclass(frozen=True, slots=True)
class Remark:
    """What a caller should know about a text that was scored; a warning of the answer."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class RenderedText:
    """The templated text of an item.

    Attributes:
        start, end: the response's span in `text`, in characters.
        dropped: the span that the model does not read; None if it reads all.
        offsets: the span of each token of the item.
    """

    text: str
    start: int
    end: int
    dropped: tuple[int, int] | None
    offsets: tuple[tuple[int, int], ...]


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
    """Character span of each response token, relative to the response. Empty unless `want_tokens`
    is set."""
    truncated: bool = False
    want_tokens: bool = False
    rendered: RenderedText | None = field(default=None, compare=False, repr=False)
    """The text behind the tokens, where the caller asked for it."""
    remarks: tuple[Remark, ...] = field(default=(), compare=False)
    is_empty: bool = False
    """The response has no token: the engine reads the last token, and nobody uses the readings."""
    sort_key: bytes = field(init=False, repr=False, compare=False)
    """Sort key of `token_ids` (`candor.forward.prefix`). Computed once, because every attempt to
    form a batch needs it."""
    group_hash: int = field(init=False, repr=False, compare=False)
    """Equal for the items of one group. A hash collision puts two groups into one batch, which
    costs time and changes no score."""

    def __post_init__(self) -> None:
        key = sort_key(self.token_ids)
        object.__setattr__(self, "sort_key", key)
        object.__setattr__(self, "group_hash", hash(key[: 4 * self.response_start]))

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True, slots=True)
class Reading:
    """One probe's result for one response, in logits: the pooled score and two summaries."""

    score: float
    mean: float
    max: float
    token_logits: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """The engine's result for one item: the RM's raw scalar and every probe's reading by name."""

    base_reward: float
    readings: dict[str, Reading] = field(default_factory=dict)
    is_empty: bool = False
    """The response has no token, so there is nothing to penalise."""

    @property
    def is_finite(self) -> bool:
        """Whether every number is finite. Token logits are covered by their reading's mean, which
        is NaN if any token is."""
        return math.isfinite(self.base_reward) and all(
            math.isfinite(value)
            for reading in self.readings.values()
            for value in (reading.score, reading.mean, reading.max)
        )


@dataclass(frozen=True, slots=True)
class BatchResult:
    """An engine's result for a batch: one score per item, in order, and the tokens computed."""

    scores: Sequence[Score]
    num_computed_tokens: int


@dataclass(frozen=True, slots=True)
class Scored:
    """One item's score and its cost.

    Attributes:
        queue_s: seconds from `submit` to the start of the item's batch.
        forward_s: seconds that the batch was in the model.
        num_computed_tokens: the item's share of the tokens computed for its batch. The shares of a
            batch add up to the batch's total.
    """

    score: Score
    queue_s: float
    forward_s: float
    num_computed_tokens: int


class Engine(Protocol):
    """What the server needs from an engine. No caller knows which engine runs."""

    name: str
    reason: str = ""
    """Why this engine runs, or why another does not, for `/v1/models`."""

    @property
    def alive(self) -> bool:
        """False once the engine can no longer score."""
        return True

    def costs(self, items: Iterable[Item]) -> Iterator[int]:
        """Tokens that one call would compute over the first item, over the first two, and so on.

        Padding counts, and shared tokens count once. `items` is consumed lazily: item by item.
        """
        ...

    def score(self, items: Sequence[Item]) -> BatchResult:
        """Scores `items`: in one forward, or in several where the model computes a text otherwise
        in the company of others. Several threads may call at once."""
        ...

    def read_probes(self, probes: Sequence[Probe]) -> None:
        """Reads these probes, and no others, in every forward that begins from now on.

        Raises:
            ValueError: two probes share a name, a probe's layer is not one of the model's, or this
                engine reads the same probes for as long as it runs. What is read does not change.
        """
        raise ValueError(f"the engine {self.name} cannot read other probes while it runs")

    def forget(self) -> None:
        """Drops everything kept from earlier forwards. Called when the model's scores are in
        doubt."""
        return None

    def close(self) -> None:
        """Releases the engine's resources. Nothing may be scored afterwards."""
        return None
