"""Null arms: the permuted penalty against all permutations, and arms that are as strong."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from candor.jobs.compare.nulls import (
    NUM_PERMUTATIONS,
    as_strong,
    permuted_weights,
    signed_like,
    with_floor,
)
from tests.jobs.enumeration import by_enumeration

Array = NDArray[np.float64]


def over_all_permutations(rewards: list[float], penalties: list[float], n: int) -> Array:
    """The definition: every permutation, and every subset of n under each."""
    orders = list(itertools.permutations(penalties))
    return np.mean(
        [
            by_enumeration([r - p for r, p in zip(rewards, dealt, strict=True)], n)
            for dealt in orders
        ],
        axis=0,
    )


@pytest.mark.parametrize("n", [1, 2, 4, 5])
@pytest.mark.parametrize(
    "penalties", [[0.0, 0.0, 0.5, 1.5, 3.0], [0.0, 0.0, 0.0, 0.0, 2.0], [1.0] * 5]
)
def test_the_permuted_arm_is_the_mean_over_all_permutations(n: int, penalties: list[float]) -> None:
    rewards = [0.3, 1.0, 1.0, -0.5, 2.0]  # with a tie
    exact = over_all_permutations(rewards, penalties, n)
    num = 20_000
    found = permuted_weights(
        np.array(rewards), np.array(penalties), n, np.random.default_rng(0), num
    )
    # Each weight lies in [0, 1], so its standard error is at most 0.5 / sqrt(num).
    np.testing.assert_allclose(found, exact, rtol=0, atol=4 * 0.5 / num**0.5)
    few = permuted_weights(np.array(rewards), np.array(penalties), n, np.random.default_rng(1))
    np.testing.assert_allclose(few, exact, rtol=0, atol=4 * 0.5 / NUM_PERMUTATIONS**0.5)


def test_the_real_penalty_would_fail_that_check() -> None:
    rewards, penalties = [0.0, 1.0, 2.0, 3.0], [0.0, 0.0, 0.0, 9.0]
    exact = over_all_permutations(rewards, penalties, 4)
    assert exact[3] == pytest.approx(0.75)
    assert by_enumeration(list(np.subtract(rewards, penalties)), 4)[3] == 0


def test_a_permuted_penalty_leaves_the_mean_penalty_of_a_random_pick() -> None:
    rng = np.random.default_rng(0)
    weights = permuted_weights(np.arange(6.0), rng.normal(size=6), 1, rng)
    np.testing.assert_allclose(weights, np.full(6, 1 / 6))


def test_as_strong_has_the_spread_within_prompts_of_the_penalties() -> None:
    values = [np.array([1.0, 2.0, 3.0]), np.array([10.0, 10.0, 40.0])]
    penalties = [np.array([0.0, 0.0, 1.0]), np.array([5.0, 5.0, 5.0])]

    def spread(parts: list[Array]) -> float:  # population, each prompt's mean taken off
        return float(np.sqrt(np.mean(np.concatenate([(p - p.mean()) ** 2 for p in parts]))))

    scaled = as_strong(values, penalties)
    assert spread(scaled) == pytest.approx(spread(penalties))
    factor = scaled[0][0] / values[0][0]
    np.testing.assert_allclose(np.concatenate(scaled), factor * np.concatenate(values))
    assert not np.concatenate(as_strong(values, [np.ones(3), np.zeros(3)])).any()
    with pytest.raises(ValueError, match="do not vary among the candidates of any prompt"):
        as_strong([np.ones(3), np.full(3, 7.0)], penalties)


def test_with_floor_lets_as_many_go_free_as_the_penalty_does() -> None:
    values = [np.array([1.0, 2.0, 3.0, 4.0]), np.array([5.0, 6.0, 7.0, 8.0])]
    penalties = [np.array([0.0, 0.0, 2.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0])]
    floored = np.concatenate(with_floor(values, penalties))
    assert (floored == 0).sum() == 6
    assert (np.diff(floored) >= 0).all()
    # A penalty that every candidate pays differently has no floor to speak of.
    varied = [np.array([1.0, 2.0, 3.0, 4.0]), np.array([-1.0, -2.0, -3.0, -4.0])]
    assert (np.concatenate(with_floor(values, varied)) == 0).sum() <= 2


def test_a_floor_leaves_a_difference_where_there_is_one() -> None:
    penalties = [np.array([0.0, 0.0, 2.0, 0.0])]
    assert with_floor([np.array([1.0, 4.0, 4.0, 1.0])], penalties)[0].tolist() == [0, 3, 3, 0]
    assert with_floor([np.array([1.0, 1.0, 1.0, 1.0])], penalties)[0].tolist() == [0, 0, 0, 0]


def test_signed_like_charges_for_what_the_penalty_charges_for() -> None:
    lengths = [np.array([1.0, 5.0, 9.0]), np.array([2.0, 4.0, 6.0])]
    rising = signed_like(lengths, [np.array([0.0, 1.0, 2.0]), np.zeros(3)])
    falling = signed_like(lengths, [np.array([2.0, 1.0, 0.0]), np.zeros(3)])
    np.testing.assert_array_equal(np.concatenate(rising), np.concatenate(lengths))
    np.testing.assert_array_equal(np.concatenate(falling), -np.concatenate(lengths))
    # Only differences within a prompt decide: between prompts, long ones pay more here.
    between = [np.array([3.0, 2.0, 1.0]), np.array([0.3, 0.2, 0.1])]
    assert signed_like(lengths, between)[0][0] < 0
