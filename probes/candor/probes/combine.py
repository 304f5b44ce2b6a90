"""`Combination`: several probes' penalties as one number. Pure floats.

A probe's term is lambda * bound(S), in reward units. The sum of the terms charges each probe in
full. But probes of one trait agree closely, and their sum charges the trait several times. `max`
charges the largest term once. `spread` charges the mean, and more where the probes disagree: there
an optimiser may have found a text that fools some of them (a conservative aggregate, as for
reward-model ensembles in Coste et al., arXiv 2310.02743).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

CombinationKind = Literal["sum", "max", "spread"]

DEFAULT_SPREAD_WEIGHT = 1.0


@dataclass(frozen=True, slots=True)
class Combination:
    """A function from the terms of the probes whose lambda is above 0 to one penalty.

    | kind | penalty |
    | --- | --- |
    | sum | t1 + t2 + ... |
    | max | the largest term |
    | spread | mean + spread_weight * population standard deviation |

    With one term all three are that term; with none they are 0.0. Every step is a single IEEE
    operation in the order of the terms, so that a recomputed penalty has the same bits (the
    built-in `sum` is compensated from Python 3.12 on, and not before).

    Raises:
        ValueError: the kind is unknown, or spread_weight is negative or not finite.
    """

    kind: CombinationKind = "sum"
    spread_weight: float = DEFAULT_SPREAD_WEIGHT
    """Read by `spread` only."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(CombinationKind):
            kinds = ", ".join(get_args(CombinationKind))
            raise ValueError(f"unknown combination {self.kind!r}: use one of {kinds}")
        if not (math.isfinite(self.spread_weight) and self.spread_weight >= 0):
            raise ValueError(
                f"spread_weight must be a finite number, at least 0, not {self.spread_weight}"
            )

    def __call__(self, terms: Sequence[float]) -> float:
        """The penalty, in reward units; never -0.0. If a term is NaN, so is the penalty."""
        if not terms:
            return 0.0
        if any(map(math.isnan, terms)):
            return math.nan  # `max` would keep or drop a NaN depending on the order
        if self.kind == "max":
            return 0.0 + max(terms)
        total = _total(terms)
        if self.kind == "sum":
            return total
        mean = total / len(terms)
        squares = _total([(term - mean) * (term - mean) for term in terms])
        return mean + self.spread_weight * math.sqrt(squares / len(terms))

    def symbol(self, terms: Sequence[str]) -> str:
        """The penalty in a formula, after `R`: ` - max(a, b)`; empty without terms."""
        if self.kind == "sum" or len(terms) <= 1:
            return "".join(f" - {term}" for term in terms)
        inside = ", ".join(terms)
        if self.kind == "max":
            return f" - max({inside})"
        return f" - mean({inside}) - {self.spread_weight:g}*std({inside})"


def _total(terms: Sequence[float]) -> float:
    total = 0.0
    for term in terms:
        total += term
    return total
