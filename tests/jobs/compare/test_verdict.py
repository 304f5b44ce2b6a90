"""The word `reduces`: never for a penalty that is a permutation itself, and always for a real one
of that size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from candor.jobs.compare.nulls import as_strong, permuted_weights
from candor.jobs.compare.selection import selection_weights
from candor.jobs.compare.verdict import (
    NO_PENALTY,
    NOT_SHOWN,
    REDUCES,
    by_unit,
    compared,
    fall_verdict,
    mean_interval,
)

Array = NDArray[np.float64]


def test_the_interval_over_units_is_the_paired_t_interval() -> None:
    rng = np.random.default_rng(0)
    real, null = rng.normal(size=12), rng.normal(size=12)
    told = compared("null", real, null)
    wanted = stats.ttest_1samp(null - real, 0).confidence_interval(0.95)
    assert (told.low, told.high) == pytest.approx((wanted.low, wanted.high))
    assert told.difference == pytest.approx((null - real).mean())
    assert (told.num_units, told.num_seeds) == (12, 1)


def test_units_and_seeds_both_widen_the_interval() -> None:
    """By the formula, written out: Welch and Satterthwaite on the two parts."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(9, 1)) + rng.normal(size=(1, 4)) + 0.1 * rng.normal(size=(9, 4))
    mean, low, high = mean_interval(values)
    a = values.mean(axis=1).var(ddof=1) / 9
    b = values.mean(axis=0).var(ddof=1) / 4
    degrees = (a + b) ** 2 / (a**2 / 8 + b**2 / 3)
    half = stats.t.ppf(0.975, degrees) * math.sqrt(a + b)
    assert (mean, low, high) == pytest.approx((values.mean(), mean - half, mean + half))
    without_seeds = mean_interval(values.mean(axis=1))
    assert high - low > 1.5 * (without_seeds[2] - without_seeds[1])


def test_the_interval_over_units_and_seeds_holds_the_true_mean() -> None:
    rng = np.random.default_rng(2)
    held, by_units_alone = 0, 0
    for _ in range(1000):
        values = rng.normal(size=(20, 1)) + 0.7 * rng.normal(size=(1, 5)) + rng.normal(size=(20, 5))
        _, low, high = mean_interval(values)
        held += low <= 0 <= high
        _, low, high = mean_interval(values.mean(axis=1))
        by_units_alone += low <= 0 <= high
    assert 940 <= held <= 990
    assert by_units_alone < 880  # the control: without the seeds' spread it would be too narrow


def test_the_hardest_arm_decides() -> None:
    rng = np.random.default_rng(3)
    real = 0.1 + 0.02 * rng.normal(size=30)
    far, near = real + 0.5 + 0.1 * rng.normal(size=30), real + 0.01 * rng.normal(size=30)
    assert fall_verdict(real, {NO_PENALTY: far}).word == REDUCES
    both = fall_verdict(real, {NO_PENALTY: far, "permuted penalty": near})
    assert (both.word, both.hardest.arm) == (NOT_SHOWN, "permuted penalty")
    told = both.as_json()
    assert told["word"] == "not shown to reduce"
    assert [one["arm"] for one in told["arms"]] == [NO_PENALTY, "permuted penalty"]


def test_a_rise_and_an_unchanged_target_are_no_reduction() -> None:
    real = np.array([0.5, 0.6, 0.7])
    assert fall_verdict(real, {"null": real - 0.2}).word == NOT_SHOWN
    assert fall_verdict(real, {"null": real}).word == NOT_SHOWN


def test_one_unit_shows_nothing() -> None:
    told = fall_verdict(np.array([0.0]), {"null": np.array([1.0])})
    assert told.word == NOT_SHOWN
    assert told.as_json()["arms"][0]["null_minus_real"] == {"mean": 1.0, "low": None, "high": None}


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one unit and one null arm"):
        fall_verdict(np.array([]), {"null": np.array([])})
    with pytest.raises(ValueError, match="at least one unit and one null arm"):
        fall_verdict(np.array([1.0]), {})
    with pytest.raises(ValueError, match="arm 'null' has 2 units and the real penalty 3"):
        fall_verdict(np.ones(3), {"null": np.ones(2)})


def test_by_unit_averages_the_prompts_of_a_unit() -> None:
    values = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 8.0]])
    np.testing.assert_array_equal(by_unit(values, ["b", "a", "b"]), [[3.0, 5.0], [3.0, 4.0]])


# --- the whole rule on simulated best-of-N --------------------------------------------------------

NUM_PROMPTS, NUM_CANDIDATES, N = 30, 16, 8


@dataclass(frozen=True)
class Simulated:
    """A study: R favours the flagged candidates; the penalty is a hinge on a noisy score."""

    rewards: Array  # [P, M]
    flags: Array  # [P, M]
    penalties: Array  # [P, M]


def simulated(rng: np.random.Generator, informed: float) -> Simulated:
    """Args:
    informed: how far the penalty's score follows the flag, in its standard deviations.
    """
    shape = (NUM_PROMPTS, NUM_CANDIDATES)
    flags = (rng.random(shape) < rng.beta(2, 4, size=(NUM_PROMPTS, 1))).astype(float)
    rewards = rng.normal(size=shape) + 2 * flags
    scores = rng.normal(size=shape) + informed * flags
    return Simulated(rewards, flags, 3 * np.maximum(scores, 0))


def targets_of(study: Simulated, rng: np.random.Generator) -> tuple[Array, dict[str, Array]]:
    """[P] under the penalty, and by null arm."""

    def target(penalties: Array) -> Array:
        rows = zip(study.rewards - penalties, study.flags, strict=True)
        return np.array([selection_weights(rewards, N) @ flags for rewards, flags in rows])

    noise = rng.normal(size=(3, *study.rewards.shape))
    seeds = [target(np.array(as_strong(list(one), list(study.penalties)))) for one in noise]
    rows = zip(study.rewards, study.penalties, study.flags, strict=True)
    permuted = np.array([permuted_weights(r, p, N, rng, 50) @ f for r, p, f in rows])
    return target(study.penalties), {
        NO_PENALTY: target(np.zeros_like(study.rewards)),
        "permuted penalty": permuted,
        "random-direction": np.stack(seeds, axis=1),
    }


def test_a_penalty_that_is_a_permutation_is_not_declared_a_reduction() -> None:
    """Such a penalty lowers the target, by dilution: against R alone most studies would say
    `reduces`, which is the control. Against the permuted arm alone a rate of 2.5 % is allowed."""
    rng = np.random.default_rng(4)
    words = {"all": 0, "permuted penalty": 0, NO_PENALTY: 0}
    for _ in range(120):
        real, nulls = targets_of(simulated(rng, informed=0), rng)
        words["all"] += fall_verdict(real, nulls).word == REDUCES
        for arm in ("permuted penalty", NO_PENALTY):
            words[arm] += fall_verdict(real, {arm: nulls[arm]}).word == REDUCES
    assert words[NO_PENALTY] >= 60
    assert words["all"] <= words["permuted penalty"] <= 8  # more has a chance of 0.5 %


def test_a_penalty_that_knows_the_target_is_declared_a_reduction() -> None:
    rng = np.random.default_rng(6)
    studies = [targets_of(simulated(rng, informed=2), rng) for _ in range(40)]
    assert sum(fall_verdict(*study).word == REDUCES for study in studies) >= 39
