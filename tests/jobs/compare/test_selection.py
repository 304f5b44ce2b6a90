"""The closed form of best-of-N against its definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from candor.jobs.compare.selection import expected, selection_weights
from tests.jobs.enumeration import by_enumeration

REWARDS = st.lists(st.integers(-2, 2).map(float), min_size=1, max_size=8)  # ties are common


def with_replacement(rewards: list[float], n: int) -> NDArray[np.float64]:
    """The textbook mistake: n independent draws."""
    values = np.array(rewards)
    below = (values[:, None] > values).mean(axis=1)
    upto = (values[:, None] >= values).mean(axis=1)
    ties = (values[:, None] == values).sum(axis=1)
    return np.asarray((upto**n - below**n) / ties)


@settings(deadline=None)
@given(REWARDS, st.data())
def test_weights_are_those_of_enumerating_every_subset(rewards: list[float], data: Any) -> None:
    n = data.draw(st.integers(1, len(rewards)))
    np.testing.assert_allclose(
        selection_weights(rewards, n), by_enumeration(rewards, n), rtol=0, atol=1e-12
    )


def test_drawing_with_replacement_would_fail_that_check() -> None:
    rewards = [0.0, 1.0, 2.0, 2.0]
    np.testing.assert_allclose(with_replacement(rewards, 1), by_enumeration(rewards, 1))
    wrong = np.abs(with_replacement(rewards, 2) - by_enumeration(rewards, 2)).max()
    assert wrong > 0.05


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=64), st.data())
def test_weights_are_probabilities_and_a_better_candidate_never_has_less(
    rewards: list[float], data: Any
) -> None:
    n = data.draw(st.integers(1, len(rewards)))
    weights = selection_weights(rewards, n)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    for level in set(rewards):
        assert len(set(weights[np.array(rewards) == level])) == 1
    if len(set(rewards)) == len(rewards):
        assert (np.diff(weights[np.argsort(rewards)]) >= 0).all()


def test_one_is_a_random_pick_and_all_is_the_argmax() -> None:
    rewards = [0.5, -1.0, 3.0, 2.0]
    assert selection_weights(rewards, 1).tolist() == [0.25] * 4
    assert selection_weights(rewards, 4).tolist() == [0, 0, 1, 0]
    assert selection_weights([1.0, 2.0, 2.0], 3).tolist() == [0, 0.5, 0.5]
    assert expected([10, 20, 30, 40], selection_weights(rewards, 4)) == 30


def test_thousands_of_candidates_are_exact_integers_until_the_last_division() -> None:
    weights = selection_weights(np.arange(4096.0), 64)
    assert weights.sum() == pytest.approx(1, abs=1e-9)
    assert weights[-1] == pytest.approx(64 / 4096)


@pytest.mark.parametrize(
    ("rewards", "n"),
    [([1.0, 2.0], 0), ([1.0, 2.0], 3), ([], 1), ([1.0, float("nan")], 1), (1.0, 1)],
)
def test_what_has_no_best_of_n_is_refused(rewards: Any, n: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  either message
        selection_weights(rewards, n)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-2, 2).map(float), min_size=5, max_size=5), min_size=1))
def test_rows_of_rewards_are_choices_of_their_own(rows: list[list[float]]) -> None:
    for n in (1, 3, 5):
        together = selection_weights(rows, n)
        assert together.tolist() == [selection_weights(row, n).tolist() for row in rows]
