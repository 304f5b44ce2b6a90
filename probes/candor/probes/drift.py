"""How far one sample of a number has moved from another: PSI, Kolmogorov-Smirnov distance, shift.

Pure numpy. Samples are one-dimensional arrays of finite numbers in any order and any unit; every
function raises `ValueError` for an empty sample. Three measures, because each is blind to
something: the shift sees no change of shape, KS hardly sees tails, PSI depends on its bins.

Both PSI and KS are above 0 for two samples of the same distribution, the more so the smaller they
are. With n and m independent values PSI is then about (bins - 1) * (1/n + 1/m) on average
(Yurdakul, "Statistical Properties of Population Stability Index", 2018): 0.018 for 1024 and 1024
values, 0.14 for 128 and 128. Values that come in groups (responses to one prompt) count for less.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Sample = NDArray[np.float64]

EMPTY_BIN = 0.5
"""Values that an empty bin is given, as log(0) has no value: half of the least that can be
seen."""

STD_FLOOR = 1e-6
"""Of |mean| + 1: what a smaller spread is taken for. A float32 score wobbles by less."""


def psi(reference: ArrayLike, current: ArrayLike, bins: int = 10) -> float:
    """Population stability index over the reference's quantile bins; at least 0.

    sum over bins of (c - r) * ln(c / r), with r and c the shares of the two samples in a bin. The
    usual reading: under 0.1 no change, 0.1 to 0.25 some, over 0.25 a different population
    (Siddiqi, "Credit Risk Scorecards", Wiley 2006). The outer bins are open; ties can make fewer
    bins than asked for, and a constant reference has two: up to its value, and above.
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
    below = np.searchsorted(reference, values, side="right") / len(reference)
    also = np.searchsorted(current, values, side="right") / len(current)
    return float(np.abs(below - also).max())


def mean_shift(reference: ArrayLike, current: ArrayLike) -> float:
    """mean(current) - mean(reference), in standard deviations of the reference (see
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
