"""Bins by hand, and scores whose true probability is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor.probes.fitting.reliability import (
    Bin,
    brier,
    expected_calibration_error,
    probabilities,
    reliability,
)


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def test_bins_by_hand() -> None:
    scores = [logit(p) for p in (0.1, 0.2, 0.3, 0.9)]
    bins = reliability(scores, [0, 1, 0, 1], bins=2)
    assert bins == [
        Bin(0.0, 0.5, pytest.approx(0.2), pytest.approx(1 / 3), 3),
        Bin(0.5, 1.0, pytest.approx(0.9), 1.0, 1),
    ]
    assert expected_calibration_error(bins) == pytest.approx((3 * (1 / 3 - 0.2) + 0.1) / 4)
    assert brier(scores, [0, 1, 0, 1]) == pytest.approx((0.01 + 0.64 + 0.09 + 0.01) / 4)


def test_scores_however_large_are_probabilities_in_the_last_bins() -> None:
    assert probabilities([-1e6, 0.0, 1e6]).tolist() == [0.0, 0.5, 1.0]
    bins = reliability([-1e6, 1e6], [1, 0])
    assert [(one.low, one.high, one.num_rows) for one in bins] == [(0.0, 0.1, 1), (0.9, 1.0, 1)]
    assert expected_calibration_error(bins) == brier([-1e6, 1e6], [1, 0]) == 1.0


def test_nothing_cannot_be_binned() -> None:
    with pytest.raises(ValueError, match="no rows"):
        reliability([], [])


def test_true_log_odds_are_calibrated_and_doubled_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(scale=2, size=20_000)
    labels = (rng.random(20_000) < probabilities(scores)).astype(int)
    assert expected_calibration_error(reliability(scores, labels)) < 0.02
    assert expected_calibration_error(reliability(3 * scores, labels)) > 0.08  # the control
    assert brier(scores, labels) < brier(3 * scores, labels)


@given(
    rows=st.lists(st.tuples(st.floats(-9, 9), st.integers(0, 1)), min_size=1, max_size=50),
    num_bins=st.integers(1, 12),
)
def test_every_row_is_in_one_bin_that_holds_its_probability(
    rows: list[tuple[float, int]], num_bins: int
) -> None:
    scores, labels = zip(*rows, strict=True)
    bins = reliability(scores, labels, bins=num_bins)
    assert sum(one.num_rows for one in bins) == len(rows)
    assert all(one.low - 1e-9 <= one.mean_probability <= one.high + 1e-9 for one in bins)
    assert sum(one.num_rows * one.share_positive for one in bins) == pytest.approx(sum(labels))
    assert 0 <= expected_calibration_error(bins) <= 1
    squares = (probabilities(scores) - np.array(labels)) ** 2
    assert brier(scores, labels) == pytest.approx(squares.mean())
