"""Is sigmoid(S) the probability of label 1? Bins, calibration error, Brier score.

A penalty only needs S to rank responses; these numbers say whether a threshold on S can be read as
odds. A probe under max pooling cannot be expected to pass, because it was fitted on means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import brier_score_loss

NUM_BINS = 10


@dataclass(frozen=True)
class Bin:
    """Rows whose probability lies in [low, high); the last bin includes `high`.

    Attributes:
        mean_probability: mean of sigmoid(S) over the rows.
        share_positive: share of the rows with label 1.
    """

    low: float
    high: float
    mean_probability: float
    share_positive: float
    num_rows: int


def probabilities(scores: ArrayLike) -> NDArray[np.float64]:
    """sigmoid(S), [n] float64."""
    return 0.5 + 0.5 * np.tanh(0.5 * np.asarray(scores, dtype=np.float64))


def reliability(scores: ArrayLike, labels: ArrayLike, *, bins: int = NUM_BINS) -> list[Bin]:
    """Bins of equal width from 0 to 1; bins without rows are left out.

    Raises:
        ValueError: there is no row.
    """
    p, y = probabilities(scores), np.asarray(labels)
    if not len(p):
        raise ValueError("no rows to bin")
    place = np.minimum((p * bins).astype(np.int64), bins - 1)
    return [
        Bin(
            low=number / bins,
            high=(number + 1) / bins,
            mean_probability=float(p[place == number].mean()),
            share_positive=float(y[place == number].mean()),
            num_rows=int((place == number).sum()),
        )
        for number in np.unique(place).tolist()
    ]


def expected_calibration_error(bins: list[Bin]) -> float:
    """Mean over the rows of |mean probability - share positive| of their bin: 0 is calibrated, 1 is
    always wrong."""
    total = sum(b.num_rows for b in bins)
    gaps = (b.num_rows * abs(b.mean_probability - b.share_positive) for b in bins)
    return sum(gaps) / total


def brier(scores: ArrayLike, labels: ArrayLike) -> float:
    """Mean squared distance between sigmoid(S) and label; a constant 0.5 scores 0.25."""
    return float(brier_score_loss(labels, probabilities(scores)))
