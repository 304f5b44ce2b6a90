"""The word for a change: a penalty *reduces* a target only if it does more than every null arm.

The comparison is paired: for each unit (a prompt, or a question with several prompts) the target
under the null arm minus the target under the real penalty. The interval is a 95 % t interval over
units. A null arm with several seeds (null probes) is averaged over them, and the interval takes in
their spread too, because other seeds would have given another mean: the variance of the mean is
that of the units' means plus that of the seeds' means, with Satterthwaite's degrees of freedom. (A
part of the variation, units times seeds, is counted twice; so the interval is a little wide.)

The rule asks for every arm, so several arms need no correction: the chance of the word `reduces`
for a penalty that is no better than one of its null arms is at most 2.5 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from candor.jobs.compare.selection import Array

REDUCES, NOT_SHOWN = "reduces", "not shown to reduce"
NO_PENALTY = "no penalty"
"""Name of the arm that chooses by R alone: the penalty must beat this one too."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A null arm's target minus the real penalty's: mean and 95 % interval.

    `low` and `high` are infinite with one unit, which says nothing about the next.
    """

    arm: str
    difference: float
    low: float
    high: float
    num_units: int
    num_seeds: int

    def as_json(self) -> dict[str, Any]:
        """Infinite ends are null."""
        low, high = (end if math.isfinite(end) else None for end in (self.low, self.high))
        return {
            "arm": self.arm,
            "null_minus_real": {"mean": self.difference, "low": low, "high": high},
            "num_units": self.num_units,
            "num_seeds": self.num_seeds,
        }


@dataclass(frozen=True, slots=True)
class FallVerdict:
    """Whether the real penalty reduces the target, and the comparisons that say so."""

    comparisons: tuple[Comparison, ...]

    @property
    def hardest(self) -> Comparison:
        """The arm that the real penalty beats least clearly: its interval reaches lowest."""
        return min(self.comparisons, key=lambda one: (one.low, one.difference))

    @property
    def word(self) -> str:
        return REDUCES if self.hardest.low > 0 else NOT_SHOWN

    def as_json(self) -> dict[str, Any]:
        return {
            "word": self.word,
            "hardest_arm": self.hardest.arm,
            "arms": [one.as_json() for one in self.comparisons],
        }


def fall_verdict(real: Array, nulls: Mapping[str, Array]) -> FallVerdict:
    """The verdict on a target that should fall.

    Args:
        real: the target of each unit under the real penalty, [U].
        nulls: by arm, the target of the same units in the same order: [U], or [U, K] for K seeds.
            One of them should be `NO_PENALTY`.

    Raises:
        ValueError: there are no units or no arms, or an arm has other units.
    """
    if not len(real) or not nulls:
        raise ValueError("a verdict needs at least one unit and one null arm")
    return FallVerdict(tuple(compared(name, real, null) for name, null in nulls.items()))


def compared(name: str, real: Array, null: Array) -> Comparison:
    """One null arm against the real penalty; the arguments are those of `fall_verdict`."""
    if len(null) != len(real):
        raise ValueError(f"arm {name!r} has {len(null)} units and the real penalty {len(real)}")
    differences = null.reshape(len(real), -1) - real[:, None]
    mean, low, high = mean_interval(differences)
    return Comparison(name, mean, low, high, *differences.shape)


def mean_interval(values: Array) -> tuple[float, float, float]:
    """Mean and 95 % t interval of values [U] of units, or [U, K] of units under K seeds.

    With one unit the interval is infinite: one unit says nothing about the next.
    """
    values = values.reshape(len(values), -1)
    mean = float(values.mean())
    parts = [_part(values.mean(axis=1)), _part(values.mean(axis=0))]
    variance = sum(part for part, _ in parts)
    if len(values) < 2:
        half = math.inf
    elif variance == 0:
        half = 0.0
    else:
        degrees = variance**2 / sum(part**2 / degrees for part, degrees in parts if degrees)
        half = float(stdtrit(degrees, 0.975)) * math.sqrt(variance)
    return mean, mean - half, mean + half


def _part(means: Array) -> tuple[float, int]:
    """Variance of the mean of these means, and its degrees of freedom; (0, 0) of a single one."""
    degrees = len(means) - 1
    return (float(means.var(ddof=1)) / len(means), degrees) if degrees else (0.0, 0)


def by_unit(values: Array, units: Sequence[str]) -> Array:
    """[U, ...]: mean of the rows of `values` [P, ...] of each unit, units as they first appear."""
    rows: dict[str, list[int]] = {}
    for index, unit in enumerate(units):
        rows.setdefault(unit, []).append(index)
    return np.array([values[found].mean(axis=0) for found in rows.values()])
