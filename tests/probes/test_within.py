"""The AUROC within prompts and the test for its fall: right values, and the stated false alarms."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy.stats import norm, t
from sklearn.metrics import roc_auc_score

from candor.probes.within import FallTest, interval, lower_bound, prompt_auroc

ALPHA = 0.05


@functools.cache
def pool(auroc: float) -> list[float]:
    """AUROCs of many prompts, of a probe that ranks with this AUROC on average."""
    rng = np.random.default_rng(6)
    return [one(rng, auroc) for _ in range(3000)]


def draw(rng: np.random.Generator, auroc: float) -> float:
    return pool(auroc)[rng.integers(3000)]


def one(rng: np.random.Generator, auroc: float, responses: int = 8) -> float:
    while True:
        labels = rng.random(responses) < 0.4
        if 0 < labels.sum() < responses:
            break
    distance = norm.ppf(auroc) * np.sqrt(2)
    found = prompt_auroc(rng.normal(size=responses) + distance * labels, labels)
    assert found is not None
    return found


def test_it_is_the_auroc_of_one_prompt() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, labels = rng.integers(0, 5, 9), rng.integers(0, 2, 9)
        labels[:2] = 0, 1
        assert prompt_auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    assert prompt_auroc([1.0, 2.0], [1, 1]) is None
    assert prompt_auroc([1.0, 1.0], [1, 0]) == 0.5


def test_the_interval_is_students() -> None:
    rng = np.random.default_rng(1)
    for n in (2, 3, 4, 5, 6, 12, 64):
        values = 0.5 + 0.05 * rng.normal(size=n)
        found = interval(list(values))
        assert found is not None
        mean, error = values.mean(), values.std(ddof=1) / np.sqrt(n)
        low, high = t.interval(0.95, n - 1, loc=mean, scale=error)
        assert found == pytest.approx((max(0, low), min(1, high)), rel=5e-3)
    assert interval([0.7]) is None


@pytest.mark.parametrize("auroc", [0.6, 0.8, 0.97])
def test_the_lower_bound_lies_below_the_mean_as_often_as_it_says(auroc: float) -> None:
    rng = np.random.default_rng(2)
    bounds = [lower_bound([draw(rng, auroc) for _ in range(64)], ALPHA) for _ in range(200)]
    assert np.mean(np.array(bounds) > auroc) <= ALPHA
    assert auroc - np.mean(bounds) < 0.13  # and it is worth something
    assert lower_bound([], ALPHA) == 0.0


def alarm_after(rng: np.random.Generator, before: float, after: float, *, at: int) -> int | None:
    """Prompts from the change to the alarm; None without one in 600 prompts. As `Tracker` runs."""
    level = lower_bound([draw(rng, before) for _ in range(64)], ALPHA / 2)
    test = FallTest(level, 64)
    for number in range(at + 600):
        if test.add(draw(rng, before if number < at else after)) >= 2 / ALPHA:
            return number - at
    return None


@pytest.mark.parametrize("auroc", [0.65, 0.95])
def test_null_runs_are_silent_at_the_stated_rate(auroc: float) -> None:
    """600 prompts are nine windows; each prompt is a look."""
    rng = np.random.default_rng(3)
    alarms = [alarm_after(rng, auroc, auroc, at=0) for _ in range(100)]
    assert np.mean([alarm is not None for alarm in alarms]) <= ALPHA


def test_the_rate_is_that_of_the_test_where_the_level_is_the_mean_itself() -> None:
    """The hardest null there is: no room between the level and the mean. Coins, whose test is the
    sharpest."""
    rng = np.random.default_rng(4)
    num_alarms = 0
    for _ in range(300):
        test = FallTest(0.7, 32)
        evidence = [test.add(float(coin)) for coin in rng.random(400) < 0.7]
        num_alarms += max(evidence) >= 1 / ALPHA
    assert 0 < num_alarms <= 300 * ALPHA


@pytest.mark.parametrize(
    ("before", "after", "at", "soon"),
    [(0.95, 0.5, 0, 30), (0.95, 0.7, 200, 120), (0.8, 0.5, 200, 120), (0.8, 0.6, 0, 150)],
)
def test_a_planted_fall_is_noticed(before: float, after: float, at: int, soon: int) -> None:
    rng = np.random.default_rng(5)
    found = [alarm_after(rng, before, after, at=at) for _ in range(10)]
    assert all(number is not None and number >= 0 for number in found)
    assert np.median([number for number in found if number is not None]) <= soon


def test_a_level_has_room_on_both_sides() -> None:
    for level in (0.0, 1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            FallTest(level, 8)
