"""The figures of the audit: gaps by hand, and their intervals over prompts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from candor.probes.statistics.tilt_figures import MeanWithInterval, prompt_tilt, reward_gap


def test_the_gap_over_all_responses_by_hand() -> None:
    found = reward_gap([1.0, 2.0, 6.0, 4.0, 0.0], [0, 1, 1, 1, 0], list("aabbb"), seed=0)
    assert (found.num_flagged, found.num_unflagged) == (3, 2)
    assert (found.mean_flagged, found.mean_unflagged) == (4.0, 0.5)
    assert found.gap is not None
    assert found.gap.mean == 3.5
    # Three resamples are possible: a twice 2 - 1, both, b twice 5 - 0.
    assert found.gap.low is not None
    assert found.gap.high is not None
    assert 1.0 <= found.gap.low < 3.5 < found.gap.high <= 5.0


def test_a_prompt_that_is_liked_as_a_whole_moves_the_gap_but_not_the_tilt() -> None:
    rewards = [0.0, 0.1, 0.0, 10.0, 10.1, 10.0]
    flags, prompts = [0, 1, 0, 1, 0, 1], list("aaabbb")
    overall = reward_gap(rewards, flags, prompts, seed=0)
    within = prompt_tilt(rewards, flags, prompts, beta=1.0)
    assert overall.gap is not None
    assert overall.gap.mean > 3
    assert within.gap is not None
    assert within.gap.mean == pytest.approx(0.0)
    assert within.share_tilted is not None
    assert within.share_tilted.mean == 0.5
    assert within.lambda_ is not None
    assert within.lambda_.mean == pytest.approx(0.05)


def test_a_missing_class_has_no_gap_and_says_so() -> None:
    found = reward_gap([1.0, 3.0], [1, 1], ["a", "a"], seed=0)
    assert (found.mean_flagged, found.mean_unflagged, found.gap) == (2.0, None, None)
    tilt = prompt_tilt([1.0, 3.0], [1, 0], ["a", "b"], beta=1.0)
    assert (tilt.num_prompts, tilt.gap, tilt.share_tilted, tilt.lambda_) == (0, None, None, None)
    assert reward_gap([], [], [], seed=0).mean_flagged is None


def test_one_prompt_has_gaps_without_an_interval() -> None:
    overall = reward_gap([1.0, 3.0], [0, 1], ["a", "a"], seed=0)
    within = prompt_tilt([1.0, 3.0], [0, 1], ["a", "a"], beta=1.0)
    assert overall.gap == within.gap == MeanWithInterval(2.0, None, None)


@pytest.mark.parametrize(
    ("rewards", "flags", "prompts"),
    [([1.0], [0, 1], ["a"]), ([math.inf], [0], ["a"]), ([1.0], [0.5], ["a"]), ([1.0], [0], "ab")],
)
def test_bad_columns_are_refused(
    rewards: list[float], flags: list[float], prompts: list[str]
) -> None:
    with pytest.raises(ValueError, match="rewards"):
        reward_gap(rewards, flags, prompts, seed=0)


def test_the_intervals_cover_what_was_planted_and_include_zero_where_nothing_was() -> None:
    """Prompts with their own level, flags at random: 40 data sets with a gap, 40 without."""
    rng = np.random.default_rng(0)
    prompts = [str(number) for number in range(40) for _ in range(6)]
    for planted in (0.3, 0.0):
        covered = 0
        for _ in range(40):
            flags = rng.integers(0, 2, size=240)
            noise = np.repeat(rng.normal(size=40), 6) + 0.5 * rng.normal(size=240)
            found = prompt_tilt(noise + planted * flags, flags, prompts, beta=1.0).gap
            assert found is not None
            assert found.low is not None
            assert found.high is not None
            covered += found.low <= planted <= found.high
        assert 34 <= covered <= 40
