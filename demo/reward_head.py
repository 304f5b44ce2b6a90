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


def fit_reward_head(chosen: Array, rejected: Array, groups: Sequence[str]) -> RewardHead:
    """Fit by Bradley-Terry, with the strength of `STRENGTHS` that is best in cross-validation.

    Args:
        chosen, rejected: (pairs, hidden) float32 activations at the token where R is read.
        groups: the piece of writing of each pair; no piece is in two folds.
    """
    differences = chosen - rejected
    accuracies = {c: _cross_validate(differences, groups, c) for c in STRENGTHS}
    strength = max(STRENGTHS, key=lambda c: accuracies[c])
    return RewardHead(_fit(differences, strength), strength, accuracies[strength])


def pair_accuracy(head: RewardHead, chosen: Array, rejected: Array) -> float:
    """Share of pairs in which the chosen reply has the higher R; ties count half."""
    margins = (chosen - rejected) @ head.weight
    return float(((margins > 0) + 0.5 * (margins == 0)).mean())


def _fit(differences: Array, strength: float) -> Array:
    scale = differences.std(axis=0) + 1e-6
    x = differences / scale
    # Each pair is given in both orders, because otherwise there would be a single class.
    both, labels = np.concatenate([x, -x]), np.repeat([1, 0], len(x))
    model = LogisticRegression(C=strength, fit_intercept=False, max_iter=2000).fit(both, labels)
    weight: Array = (model.coef_[0] / scale).astype(np.float32)
    return weight


def _cross_validate(differences: Array, groups: Sequence[str], strength: float) -> float:
    right = []
    for train, held_out in GroupKFold(5).split(differences, groups=groups):
        right.append((differences[held_out] @ _fit(differences[train], strength)) > 0)
    return float(np.concatenate(right).mean())
