"""The numbers against counting every subset by hand, and its intervals against what they
claim."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candor.jobs.sycophancy.judges import wins
from candor.jobs.sycophancy.measure import (
    OPINIONS,
    PERMUTED,
    RULES,
    Candidates,
    Curve,
    Estimate,
    Poem,
    cohens_kappa,
    curves,
    estimate,
    interval,
    reward_kept,
    rewards_along,
)
from candor.jobs.sycophancy.prompts import CONDITIONS

M, N = 4, 2
Numbers = list[float]


def candidates(base: Numbers, penalised: Numbers) -> Candidates:
    return Candidates(len(base), {"base": np.array(base), "penalised": np.array(penalised)})


def poem(rows: dict[str, tuple[Numbers, Numbers, Numbers]]) -> Poem:
    """Candidates by condition from (base_reward, reward, sentiment)."""
    felt = {name: np.array(three[2]) for name, three in rows.items()}
    return Poem(
        {name: candidates(three[0], three[1]) for name, three in rows.items()},
        {opinion: wins(felt[opinion], felt["base"]) for opinion in OPINIONS},
    )


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
        for name, subset in ((condition, theirs), ("base", neutral)):
            if rule == "random":
                picks.append([(index, 1 / N) for index in subset])
            else:
                rewards = one.candidates[name].rewards[rule]
                picks.append(chosen(rewards.tolist(), subset))
        for (i, p), (j, q) in product(*picks):
            total += p * q * float(one.verdicts[condition][i, j])
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
    few = candidates([1.0, 2.0], [2.0, 1.0])
    assert few.weights("base", 16).tolist() == [0.0, 1.0]
    assert few.weights("penalised", 16).tolist() == [1.0, 0.0]
    assert few.weights("random", 16).tolist() == [0.5, 0.5]


def test_the_chosen_of_all_is_the_first_of_equals_and_at_random_the_first_drawn() -> None:
    three = candidates([1.0, 2.0, 2.0], [0.0, 0.0, 5.0])
    assert [three.best(rule) for rule in RULES] == [0, 1, 2]


def test_without_rewards_there_is_a_random_pick_and_nothing_else() -> None:
    bare = Poem(
        {name: Candidates(2) for name in CONDITIONS},
        {"like": np.array([[1.0, 1.0], [1.0, 0.5]]), "dislike": np.array([[0.0, 0.0], [0.0, 0.5]])},
    )
    found = curves([bare], [1], ["random"])
    assert found["random"].like.tolist() == [[0.875]]
    assert found["random"].gap.tolist() == [[0.75]]
    with pytest.raises(KeyError):
        curves([bare], [1])


def made_poems(count: int, penalty: float, seed: int = 0) -> list[Poem]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        rows = {}
        for name in CONDITIONS:
            reward, score, felt = rng.normal(size=(3, 8))
            rows[name] = (reward.tolist(), (reward - penalty * score).tolist(), felt.tolist())
        made.append(poem(rows))
    return made


def test_a_penalty_of_nothing_keeps_all_of_the_neutral_reward() -> None:
    made = made_poems(10, penalty=0.0)
    assert reward_kept(rewards_along(made, [1, 2, 8])) == Estimate(1.0, 1.0, 1.0)
    curve = curves(made, [1, 2, 8])
    np.testing.assert_array_equal(curve["base"].gap, curve["penalised"].gap)


def test_a_penalty_that_reorders_neutral_answers_keeps_less() -> None:
    kept = reward_kept(rewards_along(made_poems(40, penalty=1.0), [1, 2, 8]))
    assert kept.low is not None
    assert kept.mean is not None
    assert kept.high is not None
    assert kept.low < kept.mean < kept.high < 1.0


def test_reward_kept_by_hand() -> None:
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
    rewards = rewards_along([first, second], [1, M])
    assert rewards["base"].tolist() == [[2.0, 5.0], [2.0, 3.5]]
    assert rewards["penalised"][:, -1].tolist() == [2.0, 3.5]
    # ((2 + 3.5) - (2 + 2)) / ((5 + 3.5) - (2 + 2))
    assert reward_kept(rewards).mean == pytest.approx(1.5 / 4.5)
    assert reward_kept(rewards_along([first], [M])).mean == 0.0
    assert reward_kept(rewards_along([second], [M])).mean == 1.0


def test_a_penalty_that_picks_the_worst_keeps_less_than_nothing() -> None:
    neutral = [0.0, 1.0, 2.0, 3.0]
    rows = {name: (neutral, neutral[::-1], neutral) for name in CONDITIONS}
    kept = reward_kept(rewards_along([poem(rows)], [M]))
    assert kept.mean == pytest.approx(-1.0)


def test_of_no_gain_nothing_can_be_kept() -> None:
    rows = {name: ([1.0] * M, [0.0, 1.0, 2.0, 3.0], [0.0] * M) for name in CONDITIONS}
    kept = reward_kept(rewards_along([poem(rows)] * 3, [M]))
    assert kept == Estimate(None, None, None)


def test_the_interval_holds_the_true_mean_about_nineteen_times_in_twenty() -> None:
    """200 samples of 40: 95 % nominal, 97.5 % for each side; three in four would be far off."""
    rng = np.random.default_rng(0)
    intervals = [interval(rng.normal(0.3, 1.0, 40)) for i in range(200)]
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


def test_a_ratio_is_of_sums_and_undefined_over_nothing() -> None:
    """Two of three right answers given up; the fourth question was not right and does not count."""
    first, flipped = np.array([1.0, 1.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0, 0.0])
    assert estimate(flipped, first).mean == pytest.approx(2 / 3)
    found = estimate(np.tile(flipped, 9), np.tile(first, 9))
    assert found.mean == pytest.approx(2 / 3)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 2 / 3 < found.high
    assert estimate(np.zeros(4), np.zeros(4)) == Estimate(None, None, None)
    assert estimate(np.zeros(0)) == Estimate(None, None, None)
    # One right answer among many: nobody knows of how many the share is.
    rare = np.eye(1, 8)[0]
    assert estimate(rare, rare) == Estimate(1.0, None, None)
    assert estimate(np.ones(1)) == Estimate(1.0, None, None)
    assert estimate(flipped).mean == 0.5
    assert estimate(np.zeros(3)).as_json() == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_cohens_kappa_by_hand() -> None:
    """2 x 2 of 50: both 1 in 20, both 0 in 15, first alone 5, second alone 10."""
    first = np.array([1.0] * 25 + [0.0] * 25)
    second = np.array([1.0] * 20 + [0.0] * 5 + [1.0] * 10 + [0.0] * 15)
    # observed 35/50; chance (25 * 30 + 25 * 20) / 2500 = 0.5
    assert cohens_kappa(first, second) == pytest.approx((0.7 - 0.5) / 0.5)
    assert cohens_kappa(first, first) == 1.0
    assert cohens_kappa(first, 1 - first) == pytest.approx(-1.0)
    assert cohens_kappa(np.ones(4), np.array([1.0, 1.0, 0.5, 0.0])) == 0.0
    assert cohens_kappa(np.ones(4), np.ones(4)) is None


def test_a_curve_of_several_poems_is_theirs_one_by_one() -> None:
    made = made_poems(3, penalty=0.5)
    together = curves(made, [1, 4])
    alone = [curves([one], [1, 4]) for one in made]
    for rule in RULES:
        for name in ("like", "dislike", "gap"):
            stacked = np.concatenate([getattr(one[rule], name) for one in alone])
            np.testing.assert_array_equal(getattr(together[rule], name), stacked)
    assert isinstance(together["base"], Curve)


def test_the_null_arm_deals_the_same_penalties_out_at_random() -> None:
    base, penalties = np.array([3.0, 2.0, 1.0]), np.array([4.0, 0.0, 0.0])
    one = Candidates(3, {"base": base, "penalised": base - penalties})
    # Of all three: the penalty of 4 falls on each candidate alike often. Where it falls on the
    # first, the second is chosen, and else the first.
    assert np.allclose(one.weights(PERMUTED, 3), [2 / 3, 1 / 3, 0], atol=0.12)
    assert np.allclose(one.weights("penalised", 3), [0, 1, 0])
    # The draws of a prompt are always the same, and another prompt has others.
    assert np.array_equal(one.weights(PERMUTED, 3), one.weights(PERMUTED, 3))
    other = Candidates(3, {"base": base + 1, "penalised": base + 1 - penalties})
    assert not np.array_equal(one.weights(PERMUTED, 3), other.weights(PERMUTED, 3))
    # Without a penalty it is the choice by R.
    free = Candidates(3, {"base": base, "penalised": base})
    assert np.allclose(free.weights(PERMUTED, 2), free.weights("base", 2))
