"""95 % intervals: Student's t for means of units, Fieller's for ratios of sums, BCa for the rest.

The unit is what a claim is about and what is independent of its like: a seed, a prompt, a poem, a
group of rows. The candidates of one prompt stay together.

A percentile bootstrap is too narrow with few units: of intervals over 24 units that say 95 %, about
93 % hold the true mean. The t interval of a mean is exact for normal units, and so is Fieller's
interval of a ratio ("Some problems in interval estimation", 1954). BCa (Efron, "Better bootstrap
confidence intervals", 1987) corrects the percentiles for bias and for a spread that changes with
the value.

An interval comes from the spread of the units. Where they are all equal it has no width, although
with n equal units up to about 3 / n of all units may still differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

Array = NDArray[np.float64]
Units = NDArray[np.int64]
"""Indices of units; a resample names some of them several times and others never."""

Interval = tuple[float, float]

NUM_RESAMPLES = 2000
SIDE = 0.025
"""What lies beyond each end of an interval."""


def t_intervals(values: Array) -> tuple[Array, Array]:
    """95 % intervals of the column means of `values` [P, K] over P units: low [K], high [K].

    NaN with fewer than two units, which say nothing about a spread.
    """
    num_units = len(values)
    if num_units < 2:
        nothing = np.full(values.shape[1], np.nan)
        return nothing, nothing.copy()
    mean = values.mean(axis=0)
    half = t_half_width(values.std(axis=0, ddof=1), num_units)
    return mean - half, mean + half


def t_interval(values: Sequence[float]) -> dict[str, float | None]:
    """{"mean", "low", "high"}: mean of one figure of each unit and its 95 % interval. None where
    there is no unit, or one, which says nothing about a spread."""
    found = np.asarray(values, dtype=np.float64)
    if len(found) == 0:
        return {"mean": None, "low": None, "high": None}
    mean = float(found.mean())
    if len(found) == 1:
        return {"mean": mean, "low": None, "high": None}
    half = float(t_half_width(found.std(ddof=1), len(found)))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def t_half_width(std: Array, num_units: int) -> Array:
    """Half of the width of a 95 % t interval of a mean.

    Args:
        std: standard deviations of the units (with n - 1 in the divisor).
        num_units: at least 2.
    """
    half: Array = stdtrit(num_units - 1, 1 - SIDE) * np.asarray(std) / math.sqrt(num_units)
    return half


def bca_interval(
    measure: Callable[[Units], float | None],
    num_units: int,
    *,
    seed: int,
    num_resamples: int = NUM_RESAMPLES,
) -> Interval | None:
    """95 % interval of a statistic of units, by the BCa bootstrap.

    Resamples without a value are left out, and so are units without which there is no value, in
    the correction for a changing spread.

    Args:
        measure: the statistic of these units; None where it has no value.
        num_units: the units are 0 to `num_units` - 1.
        seed: decides every resample.

    Returns:
        None with fewer than two units, where all units together have no value, and where no
        resample has one.
    """
    everything = np.arange(num_units)
    value = measure(everything) if num_units >= 2 else None
    if value is None:
        return None
    found = map(measure, resamples(num_units, seed=seed, num_resamples=num_resamples))
    drawn = np.array([one for one in found if one is not None])
    if not len(drawn):
        return None
    below = ((drawn < value).sum() + 0.5 * (drawn == value).sum()) / len(drawn)
    edge = 0.5 / len(drawn)  # the statistic may be the largest that any resample can have
    bias = ndtri(min(max(below, edge), 1 - edge))
    left_out = (measure(np.delete(everything, unit)) for unit in everything)
    without = np.array([one for one in left_out if one is not None])
    acceleration = _skewness(without) if len(without) else 0.0
    ends = bias + np.array([ndtri(SIDE), ndtri(1 - SIDE)])
    shares = ndtr(bias + ends / (1 - acceleration * ends))
    low, high = np.quantile(drawn, shares)
    return float(low), float(high)


def ratio_interval(top: Array, bottom: Array) -> Interval | None:
    """95 % Fieller interval of sum(top) / sum(bottom), [P] each, over P units.

    It holds the ratios r for which the t interval of the mean of top - r * bottom holds 0.

    Returns:
        None with fewer than two units, and where the t interval of the mean of `bottom` holds 0: a
        share of what may be nothing has no bounds.
    """
    num_units = len(top)
    if num_units < 2:
        return None
    means = np.array([top.mean(), bottom.mean()])
    spread = np.cov(top, bottom) * float(stdtrit(num_units - 1, 1 - SIDE)) ** 2 / num_units
    (c, b), (_, a) = np.outer(means, means) - spread  # a r^2 - 2 b r + c <= 0
    if a <= 0:
        return None
    half = math.sqrt(max(0.0, b * b - a * c))
    return float((b - half) / a), float((b + half) / a)


def resamples(num_units: int, *, seed: int, num_resamples: int = NUM_RESAMPLES) -> Iterator[Units]:
    """Each resample is [num_units]: units drawn with replacement. The seed decides all."""
    rng = np.random.default_rng(seed)
    at_once = max(1, 2**20 // num_units)  # a bound on memory; the draws do not depend on it
    for start in range(0, num_resamples, at_once):
        yield from rng.integers(num_units, size=(min(at_once, num_resamples - start), num_units))


def _skewness(without: Array) -> float:
    """BCa's acceleration, from the values without each unit."""
    pulls = without.mean() - without
    spread = float((pulls**2).sum())
    return float((pulls**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
