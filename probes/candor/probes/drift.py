"""How far one sample of a number has moved from another: PSI, Kolmogorov-Smirnov distance, shift.

Pure numpy. Samples are one-dimensional arrays of finite numbers in any order and any unit; every
function raises `ValueError` for an empty sample. There are three measures because each has a blind
spot: the shift of the mean sees no change of shape, the Kolmogorov-Smirnov (KS) distance hardly
sees tails, and the population stability index (PSI) depends on its bins.

PSI and KS are above 0 even for two samples of the same distribution, the more so the smaller the
samples. With n and m independent values PSI is then about (bins - 1) * (1/n + 1/m) on average
(Yurdakul, "Statistical Properties of Population Stability Index", 2018): 0.018 for 1024 and 1024
values, 0.14 for 128 and 128. Values that come in groups (responses to one prompt) are worth fewer
independent values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Sample = NDArray[np.float64]

EMPTY_BIN = 0.5
"""Values that PSI counts in an empty bin, because log(0) has no value: half of the smallest count
above 0."""

STD_FLOOR = 1e-6
"""Smallest standard deviation that `mean_shift` divides by, as a share of |mean| + 1. Rounding of
float32 scores stays below it."""


def psi(reference: ArrayLike, current: ArrayLike, bins: int = 10) -> float:
    """Population stability index over the reference's quantile bins; at least 0.

    The sum over bins of (c - r) * ln(c / r), with r and c the shares of the two samples in a bin.
    The usual reading: under 0.1 no change, 0.1 to 0.25 some change, over 0.25 a different
    population (Siddiqi, "Credit Risk Scorecards", Wiley 2006). The outer bins are open. Ties can
    make fewer bins than asked for; a constant reference has two, up to its value and above it.
    """
    reference, current = _sample(reference), _sample(current)
    steps = np.arange(1, bins) / bins
    edges = np.unique(np.quantile(reference, steps, method="inverted_cdf"))
    r, c = (
        np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1)
        for x in (reference, current)
    )
    seen = (r > 0) | (c > 0)
    r_share = np.maximum(r[seen], EMPTY_BIN) / len(reference)
    c_share = np.maximum(c[seen], EMPTY_BIN) / len(current)
    return float(np.sum((c_share - r_share) * np.log(c_share / r_share)))


def ks_distance(reference: ArrayLike, current: ArrayLike) -> float:
    """Two-sample Kolmogorov-Smirnov statistic: the largest gap between the two distribution
    functions, 0 to 1."""
    reference, current = np.sort(_sample(reference)), np.sort(_sample(current))
    values = np.concatenate([reference, current])
    reference_cdf = np.searchsorted(reference, values, side="right") / len(reference)
    current_cdf = np.searchsorted(current, values, side="right") / len(current)
    return float(np.abs(reference_cdf - current_cdf).max())


def mean_shift(reference: ArrayLike, current: ArrayLike) -> float:
    """mean(current) - mean(reference), in standard deviations of the reference (at least
    `STD_FLOOR`)."""
    reference, current = _sample(reference), _sample(current)
    mean = float(reference.mean())
    std = max(float(reference.std()), STD_FLOOR * (abs(mean) + 1))
    return (float(current.mean()) - mean) / std


def _sample(values: ArrayLike) -> Sample:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample) or not np.isfinite(sample).all():
        raise ValueError(f"need a one-dimensional sample of finite numbers, got {sample.shape}")
    return sample
