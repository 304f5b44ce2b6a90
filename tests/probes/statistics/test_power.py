"""The power of a paired t-test, against simulation and against published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from candor.probes.statistics.power import smallest_difference, units_needed


@pytest.mark.parametrize("num_units", [5, 24])
def test_the_smallest_difference_is_found_in_four_of_five_runs(num_units: int) -> None:
    difference = smallest_difference(2.0, num_units)
    drawn = np.random.default_rng(0).normal(difference, 2.0, size=(20_000, num_units))
    found = stats.ttest_1samp(drawn, 0.0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.80, abs=0.01)
    # The control: half of it is mostly missed.
    half = stats.ttest_1samp(drawn - difference / 2, 0.0, axis=1).pvalue < 0.05
    assert half.mean() < 0.35


def test_units_by_the_tables_of_a_paired_t_test() -> None:
    # Cohen (1988), d = 0.5, two-sided 5 %, power 80 %: 34 pairs; d = 1: 10 pairs.
    assert units_needed(2.0, 1.0) == 34
    assert units_needed(1.0, 1.0) == 10


@pytest.mark.parametrize(("std", "difference"), [(0.717, 0.05), (0.095, 0.05), (1.0, 3.0)])
def test_the_two_questions_agree(std: float, difference: float) -> None:
    units = units_needed(std, difference)
    assert smallest_difference(std, units) <= difference
    assert units == 2 or smallest_difference(std, units - 1) > difference


def test_no_spread_needs_two_units_and_what_cannot_be_asked_is_refused() -> None:
    assert units_needed(0.0, 0.1) == 2
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="above 0"):
            units_needed(1.0, bad)
    with pytest.raises(ValueError, match="two units"):
        smallest_difference(1.0, 1)
