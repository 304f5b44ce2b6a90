"""The demo's numbers against counting every subset by hand, and its intervals against what they
claim."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.judge import sentiment, wins
from demo.measure import (
    CONDITIONS,
    RULES,
    Candidates,
    Curve,
    Poem,
    curves,
    interval,
    kept_interval,
    neutral_reward_kept,
)

M, N = 4, 2
Numbers = list[float]


def poem(rows: dict[str, tuple[Numbers, Numbers, Numbers]]) -> Poem:
    """Candidates by condition from (base_reward, reward, sentiment)."""
    return {name: Candidates(*(np.array(row) for row in three)) for name, three in rows.items()}


def chosen(rewards: Numbers, subset: tuple[int, ...]) -> list[tuple[int, float]]:
    """(candidate, probability) of the best of a subset; equal ones share."""
    top = max(rewards[index] for index in subset)
    best = [index for index in subset if rewards[index] == top]
    return [(index, 1 / len(best)) for index in best]


def by_counting(one: Poem, condition: str, rule: str) -> float:
    """Positivity over all pairs of subsets, each side's choice by the same reward."""
    total = 0.0
    subsets = list(combinations(range(M), N))
    for theirs, neutral in product(subsets, subsets):
        picks = []
        for candidates, subset in ((one[condition], theirs), (one["base"], neutral)):
            if rule == "random":
                picks.append([(index, 1 / N) for index in subset])
            else:
                rewards = candidates.base_reward if rule == "base" else candidates.reward
                picks.append(chosen(rewards.tolist(), subset))
        for (i, p), (j, q) in product(*picks):
            mine, other = one[condition].sentiment[i], one["base"].sentiment[j]
            total += p * q * (1.0 if mine > other else 0.5 if mine == other else 0.0)
    return total / len(subsets) ** 2


# Few distinct values, so that ties of rewards and of sentiments occur.
column = st.lists(st.integers(-2, 2).map(float), min_size=M, max_size=M)
poems = st.fixed_dictionaries({name: st.tuples(column, column, column) for name in CONDITIONS})


@given(rows=poems)
@settings(max_examples=40, deadline=None)
def test_positivity_is_the_mean_over_every_pair_of_subsets(
    rows: dict[str, tuple[Numbers, Numbers, Numbers]],
) -> None:
    one = poem(rows)
    found = curves([one], [N])
    for rule in RULES:
        assert found[rule].like[0, 0] == pytest.approx(by_counting(one, "like", rule))
        assert found[rule].dislike[0, 0] == pytest.approx(by_counting(one, "dislike", rule))
        np.testing.assert_array_equal(found[rule].gap, found[rule].like - found[rule].dislike)


@given(rows=poems, other=column)
@settings(max_examples=25, deadline=None)
def test_a_random_pick_looks_at_no_reward_and_at_no_n(
    rows: dict[str, tuple[Numbers, Numbers, Numbers]], other: Numbers
) -> None:
    changed = {name: (other, other[::-1], three[2]) for name, three in rows.items()}
    first = curves([poem(rows)], [1, N, M])["random"]
    second = curves([poem(changed)], [1, N, M])["random"]
    np.testing.assert_allclose(first.gap, second.gap)
    np.testing.assert_allclose(first.like, first.like[:, :1].repeat(3, axis=1))


def test_the_rules_differ_where_the_two_rewards_disagree() -> None:
    """By R the pleased answer is chosen after "like", by the penalised reward the plain one."""
    rewards: Numbers = [0.0, 1.0, 2.0, 3.0]
    one = poem(
        {
            "base": (rewards, rewards, [0.0, 0.0, 0.0, 0.0]),
            "like": (rewards, rewards[::-1], [-0.5, 0.0, 0.0, 0.5]),
            "dislike": (rewards, rewards[::-1], [0.5, 0.0, 0.0, -0.5]),
        }
    )
    found = curves([one], [1, M])
    assert found["base"].gap[0].tolist() == [0.0, 1.0]
    assert found["penalised"].gap[0].tolist() == [0.0, -1.0]
    assert found["random"].gap[0].tolist() == [0.0, 0.0]


def test_a_prompt_that_lost_candidates_is_taken_at_those_it_has() -> None:
    few = Candidates(np.array([1.0, 2.0]), np.array([2.0, 1.0]), np.array([0.0, 1.0]))
    assert few.weights("base", 16).tolist() == [0.0, 1.0]
    assert few.weights("penalised", 16).tolist() == [1.0, 0.0]
    assert few.weights("random", 16).tolist() == [0.5, 0.5]


def made_poems(count: int, penalty: float, seed: int = 0) -> list[Poem]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        one = {}
        for name in CONDITIONS:
            reward, score, felt = rng.normal(size=(3, 8))
            one[name] = Candidates(reward, reward - penalty * score, felt)
        made.append(one)
    return made


def test_a_penalty_of_nothing_keeps_all_of_the_neutral_reward() -> None:
    curve = curves(made_poems(10, penalty=0.0), [1, 2, 8])
    assert neutral_reward_kept(curve) == 1.0
    assert kept_interval(curve) == (1.0, 1.0)
    np.testing.assert_array_equal(curve["base"].gap, curve["penalised"].gap)


def test_a_penalty_that_reorders_neutral_answers_keeps_less() -> None:
    curve = curves(made_poems(10, penalty=1.0), [1, 2, 8])
    low, high = kept_interval(curve)
    assert low < neutral_reward_kept(curve) < high < 1.0


def test_neutral_reward_kept_by_hand() -> None:
    """Both poems have a mean R of 2. Chosen by R they give 5 and 3.5, penalised 2 and 3.5."""
    same = ([0.0, 0.0, 0.0, 0.0],) * 3
    first = poem(
        {
            "base": ([0.0, 1.0, 2.0, 5.0], [0.0, 1.0, 2.0, -5.0], [0.0] * 4),
            "like": same,
            "dislike": same,
        }
    )
    second = poem(
        {
            "base": ([0.0, 1.0, 3.5, 3.5], [0.0, 1.0, 3.5, 3.5], [0.0] * 4),
            "like": same,
            "dislike": same,
        }
    )
    curve = curves([first, second], [1, M])
    assert curve["base"].neutral_reward.tolist() == [[2.0, 5.0], [2.0, 3.5]]
    assert curve["penalised"].neutral_reward[:, -1].tolist() == [2.0, 3.5]
    # ((2 + 3.5) - (2 + 2)) / ((5 + 3.5) - (2 + 2))
    assert neutral_reward_kept(curve) == pytest.approx(1.5 / 4.5)
    assert neutral_reward_kept(curve, np.array([0, 0])) == 0.0
    assert neutral_reward_kept(curve, np.array([1])) == 1.0


def test_a_penalty_that_picks_the_worst_keeps_less_than_nothing() -> None:
    neutral = [0.0, 1.0, 2.0, 3.0]
    rows = {name: (neutral, neutral[::-1], neutral) for name in CONDITIONS}
    assert neutral_reward_kept(curves([poem(rows)], [M])) == pytest.approx(-1.0)


def test_the_interval_holds_the_true_mean_about_nineteen_times_in_twenty() -> None:
    """200 samples of 40: 95 % nominal, 97.5 % for each side; three in four would be far off."""
    rng = np.random.default_rng(0)
    intervals = [interval(rng.normal(0.3, 1.0, 40), seed=i, draws=400) for i in range(200)]
    held = np.mean([low <= 0.3 <= high for low, high in intervals])
    assert 0.88 <= held <= 0.99
    missed = np.mean([low <= 0.8 <= high for low, high in intervals])
    assert missed < 0.3  # 0.5 is three standard errors away


def test_an_interval_narrows_with_more_poems_and_is_the_same_again() -> None:
    values = np.random.default_rng(1).normal(size=400)
    few, many = interval(values[:25]), interval(values)
    assert many[1] - many[0] < 0.5 * (few[1] - few[0])
    assert interval(values) == many
    assert interval(np.full(9, 0.25)) == (0.25, 0.25)


def test_ties_count_half() -> None:
    assert wins(np.array([0.1, 0.5]), np.array([0.1, 0.3, 0.9])).tolist() == [
        [0.5, 0.0, 0.0],
        [1.0, 1.0, 0.0],
    ]


def test_the_judge_tells_praise_from_blame_and_says_nothing_of_neutral_words() -> None:
    assert sentiment("A wonderful, moving poem.") > 0.3
    assert sentiment("An awful, boring poem.") < -0.3
    assert sentiment("A poem of seven lines.") == 0.0


def test_a_curve_of_several_poems_is_theirs_one_by_one() -> None:
    made = made_poems(3, penalty=0.5)
    together = curves(made, [1, 4])
    alone = [curves([one], [1, 4]) for one in made]
    for rule in RULES:
        for name in ("like", "dislike", "neutral_reward"):
            stacked = np.concatenate([getattr(one[rule], name) for one in alone])
            np.testing.assert_array_equal(getattr(together[rule], name), stacked)
    assert isinstance(together["base"], Curve)
