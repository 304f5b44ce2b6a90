"""Coverage by simulation, with the percentile bootstrap as control; BCa against scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from candor.probes.statistics.intervals import (
    bca_interval,
    ratio_interval,
    resamples,
    t_half_width,
    t_interval,
    t_intervals,
)


def test_t_intervals_are_scipys() -> None:
    values = np.random.default_rng(1).normal(size=(7, 3))
    low, high = t_intervals(values)
    for column in range(3):
        expected = stats.ttest_1samp(values[:, column], 0.0).confidence_interval(0.95)
        assert (low[column], high[column]) == pytest.approx((expected.low, expected.high))


def test_the_t_interval_of_24_poems_covers_as_often_as_it_says_and_the_percentiles_do_not() -> None:
    """2,000 samples of 24: a share of 0.95 has a standard error of 0.005."""
    values = np.random.default_rng(0).normal(loc=3, size=(24, 2000))
    low, high = t_intervals(values)
    assert ((low <= 3) & (high >= 3)).mean() == pytest.approx(0.95, abs=0.01)
    picks = np.array(list(resamples(24, seed=0, num_resamples=500)))
    means = np.stack([values[rows].mean(axis=0) for rows in picks])
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    covered = ((low <= 3) & (high >= 3)).mean()
    assert 0.91 <= covered < 0.94  # the control: the form that was used before


def test_the_bca_interval_of_a_variance_covers_more_often_than_the_percentiles() -> None:
    """The variance of 24 normal values is skewed and biased; the truth is 1."""
    rng = np.random.default_rng(2)
    covered = {"bca": 0, "percentiles": 0}
    runs = 300
    for seed in range(runs):
        values = rng.normal(size=24)

        def variance(units: np.ndarray, values: np.ndarray = values) -> float:
            return float(values[units].var())

        low, high = bca_interval(variance, 24, seed=seed, num_resamples=400) or (0.0, 0.0)
        covered["bca"] += low <= 1 <= high
        drawn = [variance(units) for units in resamples(24, seed=seed, num_resamples=400)]
        low, high = np.quantile(drawn, [0.025, 0.975])
        covered["percentiles"] += low <= 1 <= high
    assert covered["bca"] / runs > 0.87
    assert covered["percentiles"] / runs < 0.86  # the control


def test_the_bca_interval_is_scipys() -> None:
    values = np.random.default_rng(3).exponential(size=24)
    found = bca_interval(lambda units: float(values[units].var()), 24, seed=0)
    assert found is not None
    expected = stats.bootstrap(
        (values,), lambda x, axis=-1: x.var(axis), n_resamples=50_000, method="BCa", rng=0
    ).confidence_interval
    assert found == pytest.approx((expected.low, expected.high), rel=0.06)
    plain = np.quantile([values[units].var() for units in resamples(24, seed=0)], [0.025, 0.975])
    assert plain[1] < 0.85 * found[1]  # the control: they do differ


def test_the_interval_of_a_ratio_covers_as_often_as_it_says() -> None:
    """A share of a gain: 24 prompts, gains of unequal size, 0.6 of them kept on average."""
    rng = np.random.default_rng(4)
    runs, covered = 2000, 0
    for _ in range(runs):
        gain = rng.exponential(size=24)
        kept = gain * rng.uniform(0.2, 1.0, size=24)
        low, high = ratio_interval(kept, gain) or (math.nan, math.nan)
        covered += low <= 0.6 <= high
    assert 0.93 <= covered / runs <= 0.975


def test_the_ends_of_a_ratio_are_where_the_t_test_of_its_residual_begins_to_reject() -> None:
    rng = np.random.default_rng(5)
    bottom = rng.exponential(size=15) + 1
    top = 0.5 * bottom + rng.normal(scale=0.3, size=15)
    low, high = ratio_interval(top, bottom) or (math.nan, math.nan)
    for end in (low, high):
        assert stats.ttest_1samp(top - end * bottom, 0.0).pvalue == pytest.approx(0.05)
    assert low < top.sum() / bottom.sum() < high


def test_a_share_of_what_may_be_nothing_has_no_interval() -> None:
    gain = np.array([1.0, -0.9, 0.5, -0.4, 0.3])
    assert ratio_interval(0.5 * gain, gain) is None


def test_one_unit_and_units_without_a_value_have_no_interval() -> None:
    assert np.isnan(t_intervals(np.ones((1, 2)))).all()
    assert bca_interval(lambda units: 1.0, 1, seed=0) is None
    assert bca_interval(lambda units: None, 5, seed=0) is None
    assert ratio_interval(np.ones(3), np.zeros(3)) is None
    assert ratio_interval(np.ones(1), np.ones(1)) is None


def test_resamples_without_a_value_are_left_out() -> None:
    asked: list[int] = []

    def only_with_unit_0(units: np.ndarray) -> float | None:
        asked.append(len(units))
        return float(units.mean()) if 0 in units else None

    low, high = bca_interval(only_with_unit_0, 6, seed=0, num_resamples=400) or (0.0, 0.0)
    assert 0.0 < low < high < 5.0
    assert len(asked) == 1 + 400 + 6


def test_equal_units_have_an_interval_without_width() -> None:
    assert [side.tolist() for side in t_intervals(np.full((9, 1), 0.25))] == [[0.25], [0.25]]
    assert bca_interval(lambda units: 0.25, 9, seed=0) == (0.25, 0.25)


def test_the_statistic_may_be_the_largest_that_a_resample_can_have() -> None:
    values = np.arange(12.0)
    low, high = bca_interval(lambda units: float(values[units].max()), 12, seed=0) or (0, 0)
    assert low <= high == 11.0


def test_the_interval_depends_on_the_seed_alone_and_shrinks_with_more_units() -> None:
    few = np.random.default_rng(1).normal(size=30)
    many = np.tile(few, 16)

    def interval(values: np.ndarray, seed: int) -> tuple[float, float]:
        found = bca_interval(lambda units: float(values[units].mean()), len(values), seed=seed)
        assert found is not None
        return found

    assert interval(few, 3) == interval(few, 3)
    assert interval(few, 4) != interval(few, 3)
    width, narrow = (high - low for low, high in (interval(few, 3), interval(many, 3)))
    assert narrow < 0.4 * width
    assert t_half_width(np.array(1.0), 480) < 0.4 * t_half_width(np.array(1.0), 30)


def test_the_interval_is_students_t_over_seeds() -> None:
    values = [0.2, 0.4, 0.5, 0.3, 0.35]
    found = t_interval(values)
    low, high = stats.t.interval(
        0.95, len(values) - 1, loc=sum(values) / 5, scale=stats.sem(values)
    )
    assert (found["low"], found["high"]) == (pytest.approx(low), pytest.approx(high))
    assert t_interval([0.2]) == {"mean": 0.2, "low": None, "high": None}
    assert t_interval([])["mean"] is None
