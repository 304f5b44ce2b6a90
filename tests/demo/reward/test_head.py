"""The Bradley-Terry head finds a direction that is there, and none where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from demo.reward.head import STRENGTHS, RewardHead, fit_reward_head
from demo.reward.model import pair_accuracy

HIDDEN, PAIRS, PIECES = 24, 600, 30
Array = NDArray[np.float32]
EQUAL: Array = np.ones(PAIRS, dtype=np.float32)


def direction() -> Array:
    planted = np.random.default_rng(7).normal(size=HIDDEN)
    return (planted / np.linalg.norm(planted)).astype(np.float32)


def rated(seed: int, strength: float) -> tuple[Array, Array, list[str]]:
    """Pairs whose rater prefers by `strength` times the planted direction, as Bradley-Terry says.

    Every activation has a part of its piece in common, which a difference takes out.
    """
    rng = np.random.default_rng(seed)
    piece = rng.integers(0, PIECES, PAIRS)
    shared = 5 * rng.normal(size=(PIECES, HIDDEN))[piece]
    first, second = (shared + rng.normal(size=(PAIRS, HIDDEN)) for _ in range(2))
    wins = rng.random(PAIRS) < 1 / (1 + np.exp(-strength * ((first - second) @ direction())))
    chosen = np.where(wins[:, None], first, second).astype(np.float32)
    rejected = np.where(wins[:, None], second, first).astype(np.float32)
    return chosen, rejected, [f"piece-{seed}-{number}" for number in piece]


def test_a_planted_direction_is_recovered_and_predicts_new_pieces() -> None:
    head = fit_reward_head(*rated(seed=0, strength=4.0), EQUAL)
    assert head.weight.shape == (HIDDEN,)
    assert head.weight.dtype == np.float32
    assert head.strength in STRENGTHS
    assert head.weight @ direction() / np.linalg.norm(head.weight) > 0.9
    chosen, rejected, _ = rated(seed=1, strength=4.0)
    assert pair_accuracy((chosen - rejected) @ head.weight) > 0.8
    assert head.cross_validated_accuracy > 0.8


def test_raters_who_toss_a_coin_teach_nothing() -> None:
    """The bound is four standard deviations of 600 coin tosses."""
    head = fit_reward_head(*rated(seed=2, strength=0.0), EQUAL)
    bound = 4 * 0.5 / np.sqrt(PAIRS)
    chosen, rejected, _ = rated(seed=3, strength=0.0)
    assert abs(pair_accuracy((chosen - rejected) @ head.weight) - 0.5) < bound
    assert abs(head.cross_validated_accuracy - 0.5) < bound


def test_the_accuracy_it_reports_is_of_pieces_that_were_held_out() -> None:
    """Each piece's rater prefers along a direction of its own: nothing carries over to another."""
    rng = np.random.default_rng(4)
    pieces = np.repeat(np.arange(20), 4)
    own = rng.normal(size=(20, 256))[pieces].astype(np.float32)
    chosen = own + rng.normal(size=own.shape).astype(np.float32)
    rejected = -own
    head = fit_reward_head(chosen, rejected, [str(piece) for piece in pieces], EQUAL[:80])
    assert pair_accuracy((chosen - rejected) @ head.weight) > 0.95
    assert head.cross_validated_accuracy < 0.8


def test_the_strength_is_one_of_those_offered_and_the_fit_is_the_same_again() -> None:
    pairs = rated(seed=5, strength=2.0)
    first, second = fit_reward_head(*pairs, EQUAL), fit_reward_head(*pairs, EQUAL)
    np.testing.assert_array_equal(first.weight, second.weight)
    assert first.strength == second.strength
    assert first.strength in STRENGTHS


def test_pairs_of_more_weight_decide_where_raters_contradict_each_other() -> None:
    chosen, rejected, groups = rated(seed=6, strength=4.0)
    half = PAIRS // 2
    chosen[half:], rejected[half:] = rejected[half:].copy(), chosen[half:].copy()
    for heavy, sign in ((slice(None, half), 1), (slice(half, None), -1)):
        weights = EQUAL.copy()
        weights[heavy] = 9
        head = fit_reward_head(chosen, rejected, groups, weights)
        assert sign * (head.weight @ direction()) > 0.5 * np.linalg.norm(head.weight)


def test_pairs_that_score_alike_count_half() -> None:
    head = RewardHead(np.array([1.0, 0.0], np.float32), 1e-2, 0.5)
    chosen = np.array([[1, 0], [0, 5], [0, 0]], np.float32)
    rejected = np.array([[0, 0], [0, 9], [1, 0]], np.float32)
    assert pair_accuracy((chosen - rejected) @ head.weight) == pytest.approx(0.5)
    assert pair_accuracy((chosen[:2] - rejected[:2]) @ head.weight) == pytest.approx(0.75)
