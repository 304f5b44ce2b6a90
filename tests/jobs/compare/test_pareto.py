"""Costs at an equal fall: lines between strengths, the first crossing, and arms that fall short."""

from __future__ import annotations

import numpy as np
import pytest

from candor.jobs.compare.pareto import ArmCurve, fall_levels

REAL = ArmCurve(np.array([0.8, 0.6, 0.2, 0.1]), {"R": np.array([1.0, 0.9, 0.5, 0.1])})


def test_costs_are_read_on_the_line_between_two_strengths() -> None:
    for fall, kept in ((0.0, 1.0), (0.1, 0.95), (0.2, 0.9), (0.4, 0.7), (0.6, 0.5), (0.7, 0.1)):
        assert REAL.at_fall(fall) == {"R": pytest.approx(kept)}


def test_an_arm_that_never_falls_so_far_has_no_figure() -> None:
    assert REAL.at_fall(0.71) is None
    rising = ArmCurve(np.array([0.5, 0.6, 0.7]), {"R": np.array([1.0, 0.9, 0.8])})
    assert rising.largest_fall == 0
    assert rising.at_fall(0.0) == {"R": 1.0}
    assert rising.at_fall(0.01) is None


def test_a_target_that_falls_and_rises_counts_where_it_first_reaches_the_fall() -> None:
    curve = ArmCurve(np.array([0.5, 0.3, 0.5, 0.1]), {"R": np.array([1.0, 0.8, 0.6, 0.4])})
    assert curve.at_fall(0.1) == {"R": pytest.approx(0.9)}
    assert curve.at_fall(0.3) == {"R": pytest.approx(0.6 - 0.2 * 0.75)}


def test_levels_are_parts_of_the_real_fall_and_what_all_arms_reach() -> None:
    weak = ArmCurve(np.array([0.8, 0.7]), {"R": np.array([1.0, 0.5])})
    assert fall_levels({"penalty": REAL, "null": weak}, "penalty") == pytest.approx(
        [0.1, 0.175, 0.35, 0.7]
    )
    rising = ArmCurve(np.array([0.8, 0.9]), {"R": np.array([1.0, 0.5])})
    assert fall_levels({"penalty": REAL, "null": rising}, "penalty") == pytest.approx(
        [0.175, 0.35, 0.7]
    )
    assert fall_levels({"penalty": rising}, "penalty") == []


def test_wrong_curves_and_falls_are_refused() -> None:
    with pytest.raises(ValueError, match="one value per strength"):
        ArmCurve(np.zeros(3), {"R": np.zeros(2)})
    with pytest.raises(ValueError, match="a fall is at least 0"):
        REAL.at_fall(-0.1)
