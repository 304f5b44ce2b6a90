"""Is sigmoid(S) the probability that it claims to be? Bins, calibration error, Brier score.

A penalty only needs S to rank; these numbers say whether a threshold on S can be read as odds. A
probe under max pooling cannot be expected to pass: its fit was on means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Rows whose probability lies in [low, high), the last bin with its upper end.

    Attributes:
        mean_probability: of the rows, as claimed.
        share_positive: of the rows with label 1, as found.
    """

    low: float
    high: float
    mean_probability: float
    share_positive: float
    num_rows: int


def probabilities(scores: ArrayLike) -> NDArray[np.float64]:
    """sigmoid(S), [n] float64."""
    return 0.5 + 0.5 * np.tanh(0.5 * np.asarray(scores, dtype=np.float64))


def reliability(scores: ArrayLike, labels: ArrayLike, *, bins: int = BINS) -> list[Bin]:
    """Equal widths from 0 to 1; bins without rows are left out.

    Raises:
        ValueError: no row.
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
    """Mean distance of claimed and found over the rows: 0 is calibrated, 1 is always wrong."""
    total = sum(one.num_rows for one in bins)
    gaps = (one.num_rows * abs(one.mean_probability - one.share_positive) for one in bins)
    return sum(gaps) / total


def brier(scores: ArrayLike, labels: ArrayLike) -> float:
    """Mean squared distance of sigmoid(S) and label; a constant 0.5 scores 0.25."""
    return float(np.square(probabilities(scores) - np.asarray(labels)).mean())
