"""Percentile bootstrap: intervals by resampling prompts, poems or groups of rows.

The unit that is resampled is the one whose members depend on each other: the candidates of one
prompt stay together in every resample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NUM_RESAMPLES = 2000


def resamples(
    num_rows: int, *, seed: int, num_resamples: int = NUM_RESAMPLES
) -> Iterator[NDArray[np.int64]]:
    """Each resample is [num_rows]: indices below `num_rows`, drawn with replacement. The seed
    decides all."""
    rng = np.random.default_rng(seed)
    at_once = max(1, 2**20 // num_rows)  # a bound on memory; the draws do not depend on it
    for start in range(0, num_resamples, at_once):
        yield from rng.integers(num_rows, size=(min(at_once, num_resamples - start), num_rows))


def resampled_totals(values: Array, *, seed: int, num_resamples: int = NUM_RESAMPLES) -> Array:
    """[num_resamples, K]: column totals of `values` [P, K] over P rows drawn with replacement.

    All columns see the same resamples.
    """
    num_rows = len(values)
    totals = np.empty((num_resamples, values.shape[1]))
    for b, drawn in enumerate(resamples(num_rows, seed=seed, num_resamples=num_resamples)):
        totals[b] = np.bincount(drawn, minlength=num_rows) @ values
    return totals


def percentile_interval(values: Array | Sequence[float]) -> tuple[Array, Array]:
    """Low and high ends of the middle 95 % of resampled `values`, along their first axis."""
    low, high = np.percentile(values, [2.5, 97.5], axis=0)
    return low, high


def mean_intervals(
    values: Array, *, seed: int, num_resamples: int = NUM_RESAMPLES
) -> tuple[Array, Array]:
    """95 % intervals of the column means of `values` [P, K], resampling rows: low [K], high [K]."""
    totals = resampled_totals(values, seed=seed, num_resamples=num_resamples)
    return percentile_interval(totals / len(values))
