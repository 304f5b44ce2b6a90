"""A scalar head on a frozen trunk, fitted by Bradley-Terry on preference pairs.

The trunk does not move. So P(chosen beats rejected) = sigmoid(w . (h_chosen - h_rejected)) is a
logistic regression without intercept on differences of last-token activations. It is convex, takes
seconds on a CPU and gives the same answer every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

Array = NDArray[np.float32]
STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Candidates for C, the inverse of the L2 penalty on the standardised difference."""


@dataclass(frozen=True)
class RewardHead:
    """R = weight . h, with the chosen strength and its cross-validated accuracy."""

    weight: Array  # (hidden,)
    strength: float
    cross_validated_accuracy: float


def fit_reward_head(
    chosen: Array, rejected: Array, groups: Sequence[str], weights: Array
) -> RewardHead:
    """Fit by Bradley-Terry, with the strength of `STRENGTHS` that is best in cross-validation.

    Args:
        chosen, rejected: (pairs, hidden) float32 activations at the token where R is read.
        groups: the piece of writing or the question of each pair; none is in two folds.
        weights: (pairs,) weight of each pair, in the fit and in the accuracy.
    """
    differences = chosen - rejected
    accuracies = {c: _cross_validate(differences, groups, weights, c) for c in STRENGTHS}
    strength = max(STRENGTHS, key=lambda c: accuracies[c])
    return RewardHead(_fit(differences, weights, strength), strength, accuracies[strength])


def _fit(differences: Array, weights: Array, strength: float) -> Array:
    scale = differences.std(axis=0) + 1e-6
    x = differences / scale
    # Each pair is given in both orders, because otherwise there would be a single class.
    both, labels = np.concatenate([x, -x]), np.repeat([1, 0], len(x))
    model = LogisticRegression(C=strength, fit_intercept=False, max_iter=2000)
    model.fit(both, labels, sample_weight=np.concatenate([weights, weights]))
    weight: Array = (model.coef_[0] / scale).astype(np.float32)
    return weight


def _cross_validate(
    differences: Array, groups: Sequence[str], weights: Array, strength: float
) -> float:
    right = np.zeros(len(differences))
    for train, held_out in GroupKFold(5).split(differences, groups=groups):
        weight = _fit(differences[train], weights[train], strength)
        right[held_out] = (differences[held_out] @ weight) > 0
    return float(np.average(right, weights=weights))
