"""Best-of-N, exactly: how likely each candidate is to be chosen.

The expectation over all subsets of N of the M drawn candidates has a closed form, so a figure has
no noise from the choice of a subset, whatever is averaged: R, S, or whether a verdict was given.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def selection_weights(rewards: ArrayLike, n: int) -> Array:
    """Probability that each of M candidates is the best of n drawn without replacement, exactly.

    A candidate with L candidates below it is the best of C(L, n - 1) of the C(M, n) subsets. Among
    t candidates of equal reward, some candidate is the best in C(L + t, n) - C(L, n) subsets, and
    each has an equal share of these.

    Args:
        rewards: [..., M], finite; each row along the last axis is a choice of its own.
        n: 1..M; 1 is a random pick, M the argmax.

    Returns:
        [..., M] float64; each row sums to 1 up to rounding.

    Raises:
        ValueError: n is out of range, or a reward is not finite (it has no rank).
    """
    values = np.asarray(rewards, dtype=np.float64)
    if values.ndim < 1 or not np.isfinite(values).all():
        raise ValueError("rewards must be lists of finite numbers")
    size = values.shape[-1]
    if not 1 <= n <= size:
        raise ValueError(f"n must be between 1 and {size}, the number of candidates, not {n}")
    below, ties = _ranks(values)
    pairs, at = np.unique(below * (size + 1) + ties, return_inverse=True)
    subsets = math.comb(size, n)
    shares = []
    for pair in pairs.tolist():
        low, tied = divmod(pair, size + 1)
        best = math.comb(low + tied, n) - math.comb(low, n)
        shares.append(best / (tied * subsets))  # exact integers until here
    return np.array(shares)[at].reshape(values.shape)


def expected(values: ArrayLike, weights: ArrayLike) -> float:
    """Mean of `values` [M] under the selection probabilities `weights` [M]."""
    return float(np.dot(np.asarray(values, dtype=np.float64), np.asarray(weights)))


def _ranks(values: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each value along the last axis: how many are below it, and how many equal it (itself
    included)."""
    order = np.argsort(values, axis=-1)
    ordered = np.take_along_axis(values, order, axis=-1)
    size = values.shape[-1]
    place = np.broadcast_to(np.arange(size), values.shape)
    changes = ordered[..., 1:] != ordered[..., :-1]
    edge = np.ones((*values.shape[:-1], 1), dtype=bool)
    starts = np.where(np.concatenate([edge, changes], axis=-1), place, 0)
    first = np.maximum.accumulate(starts, axis=-1)
    ends = np.where(np.concatenate([changes, edge], axis=-1), place, size)
    last = np.minimum.accumulate(ends[..., ::-1], axis=-1)[..., ::-1]
    below, ties = np.empty_like(first), np.empty_like(first)
    np.put_along_axis(below, order, first, axis=-1)
    np.put_along_axis(ties, order, last - first + 1, axis=-1)
    return below, ties
