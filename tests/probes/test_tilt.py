"""The tilt of a reward towards a flag: by hand, and against simulated optimisers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor.probes.tilt import (
    Threshold,
    closed_form_lambda,
    log_mean_exp,
)

REWARDS = [0.0, 1.0, 3.0, 0.5]
FLAGS = [0, 0, 1, 1]

rewards_and_flags = st.lists(
    st.tuples(st.floats(-50, 50), st.booleans()), min_size=2, max_size=12
).filter(lambda rows: len({flag for _, flag in rows}) == 2)


def flagged_share(rewards: list[float], flags: list[int], beta: float) -> float:
    """The distribution that an optimiser of strength beta makes of equally likely responses."""
    top = max(rewards)
    weights = [math.exp(beta * (reward - top)) for reward in rewards]
    return sum(w for w, flag in zip(weights, flags, strict=True) if flag) / sum(weights)


def test_lambda_by_hand() -> None:
    m1 = (math.exp(2 * 3.0) + math.exp(2 * 0.5)) / 2
    m0 = (math.exp(0.0) + math.exp(2 * 1.0)) / 2
    assert closed_form_lambda(REWARDS, FLAGS, 2.0) == pytest.approx(math.log(m1 / m0) / 2)


@given(rewards_and_flags, st.floats(0.05, 5))
def test_it_takes_the_tilt_out_and_no_smaller_penalty_does(
    rows: list[tuple[float, bool]], beta: float
) -> None:
    rewards, flags = [r for r, _ in rows], [int(f) for _, f in rows]
    base = sum(flags) / len(flags)
    strength = closed_form_lambda(rewards, flags, beta)
    if flagged_share(rewards, flags, beta) <= base:
        assert strength < 1e-9
        return
    exact, half = (
        [r - part * strength * f for r, f in zip(rewards, flags, strict=True)] for part in (1, 0.5)
    )
    assert flagged_share(exact, flags, beta) == pytest.approx(base, abs=1e-6)
    if beta * strength > 1e-3:
        assert flagged_share(half, flags, beta) > base


@pytest.mark.parametrize("flags", [[0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]])
def test_there_is_no_penalty_without_both_classes_or_without_tilt(flags: list[int]) -> None:
    assert closed_form_lambda(REWARDS, flags, 1.0) == 0.0


def test_log_mean_exp_runs_from_the_mean_to_the_maximum_and_never_overflows() -> None:
    rewards = [1.0, 2.0, 6.0]
    assert log_mean_exp(rewards, 1e-9) == pytest.approx(3.0)
    assert log_mean_exp(rewards, 1e9) == pytest.approx(6.0)
    assert log_mean_exp([1e6, 1e6 + 1], 1.0) == pytest.approx(
        1e6 + 1 + math.log1p(math.e**-1) - math.log(2)
    )


@pytest.mark.parametrize(
    ("rewards", "beta"),
    [([1.0], 0.0), ([1.0], -1.0), ([1.0], math.inf), ([math.nan], 1.0), ([], 1)],
)
def test_what_has_no_log_mean_exp_is_refused(rewards: list[float], beta: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        log_mean_exp(rewards, beta)


def test_a_threshold_is_strict_and_keeps_a_nan() -> None:
    flag = Threshold(0.5)
    assert [flag(0.4), flag(0.5), flag(0.6)] == [0.0, 0.0, 1.0]
    assert math.isnan(flag(math.nan))
    assert flag.symbol == "[S > 0.5]"
