"""How good a probe is, and the controls that show what the number is worth.

Scores are S (or anything ordered), labels 0 or 1. AUROC asks whether S ranks a label-1 response
above a label-0 one anywhere in the data; pair accuracy asks it within a group, which is how S is
used: to compare responses to one prompt. The two controls are what a probe without information
would score.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probes.fit import fit_logistic

Ints = NDArray[np.int64]


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Probability that a random label-1 score is above a random label-0 one; ties count half.

    Raises:
        ValueError: one of the labels is missing, or a score is not finite (it has no rank).
    """
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    ones = int((y == 1).sum())
    zeros = len(y) - ones
    if ones == 0 or zeros == 0:
        raise ValueError(f"AUROC needs both labels, got {ones} ones and {zeros} zeros")
    if not np.isfinite(s).all():
        raise ValueError("AUROC needs finite scores")
    _, inverse, counts = np.unique(s, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2  # equal scores share the mean of their ranks
    rank_sum = float(mean_ranks[inverse][y == 1].sum())
    return (rank_sum - ones * (ones + 1) / 2) / (ones * zeros)


def auroc_interval(
    scores: ArrayLike,
    labels: ArrayLike,
    groups: Sequence[str],
    *,
    seed: int,
    resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap over GROUPS: rows of one group are not independent.

    A resample that lacks a label is left out; with few groups the interval is rough, and with one
    group it says nothing.

    Raises:
        ValueError: no resample has both labels.
    """
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    members = _members(groups)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        drawn = rng.integers(len(members), size=len(members))
        rows = np.concatenate([members[index] for index in drawn])
        if 0 < y[rows].sum() < len(rows):
            values.append(auroc(s[rows], y[rows]))
    if not values:
        raise ValueError("no resample of the groups has both labels")
    tail = 50 * (1 - level)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def pair_accuracy(scores: ArrayLike, labels: ArrayLike, groups: Sequence[str]) -> float | None:
    """Share of (label 1, label 0) pairs within a group with S1 > S0; ties count half.

    Every pair weighs the same. None where no group has both labels.
    """
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    won, pairs = 0.0, 0
    for rows in _members(groups):
        ones, zeros = s[rows][y[rows] == 1], s[rows][y[rows] == 0]
        difference = ones[:, None] - zeros[None, :]
        won += float((difference > 0).sum() + 0.5 * (difference == 0).sum())
        pairs += difference.size
    return won / pairs if pairs else None


def shuffled_label_aurocs(
    x_train: NDArray[np.float32],
    y_train: Ints,
    x_validation: NDArray[np.float32],
    y_validation: Ints,
    *,
    C: float,
    seed: int,
    permutations: int = 10,
) -> list[float]:
    """Control: validation AUROC of the same fit on permuted training labels. It should lie around
    0.5.

    Only the training part is permuted. A mean far from 0.5 means that the validation score can be
    had without the labels; the spread shows how far chance alone gets on a validation part of this
    size.
    """
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(permutations):
        weight, bias = fit_logistic(x_train, rng.permutation(y_train), C)
        values.append(auroc(x_validation @ weight + bias, y_validation))
    return values


def length_sign(lengths_train: ArrayLike, labels_train: ArrayLike) -> int:
    """+1 where longer responses are more often label 1 in the training part, else -1.

    The second control is `auroc(sign * lengths, labels)` on another part, the sign learnt here: a
    probe that is not clearly above it may have learnt length.
    """
    return 1 if auroc(lengths_train, labels_train) >= 0.5 else -1


def summarise(
    scores: ArrayLike, labels: ArrayLike, groups: Sequence[str], *, seed: int
) -> dict[str, float | int | None]:
    """The numbers a card states of one part of the data."""
    low, high = auroc_interval(scores, labels, groups, seed=seed)
    return {
        "auroc": auroc(scores, labels),
        "auroc_low": low,
        "auroc_high": high,
        "pair_accuracy": pair_accuracy(scores, labels, groups),
        "num_rows": len(groups),
        "num_groups": len(set(groups)),
    }


def _members(groups: Sequence[str]) -> list[Ints]:
    """Row indices of each group, groups in order of first appearance."""
    rows: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        rows.setdefault(group, []).append(index)
    return [np.asarray(indices, dtype=np.int64) for indices in rows.values()]
