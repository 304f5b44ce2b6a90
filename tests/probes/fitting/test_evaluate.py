"""Measures against independent ways of computing them, and the controls on data made for them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from candor.probes.fitting.evaluate import (
    auroc,
    auroc_interval,
    length_sign,
    num_mixed_prompts,
    ranking,
    rate_above,
    shuffled_label_aurocs,
    summarise,
    threshold_at_tpr,
    tpr_at_fpr,
    within_prompt_auroc,
    within_prompt_interval,
)
from tests.probes.made import planted

scored = st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 1)), min_size=2, max_size=40).filter(
    lambda rows: {label for _, label in rows} == {0, 1}
)


@given(rows=scored)
def test_auroc_equals_scikit_learns_also_with_ties(rows: list[tuple[int, int]]) -> None:
    scores, labels = zip(*rows, strict=True)
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


def test_auroc_needs_both_labels_and_finite_scores() -> None:
    with pytest.raises(ValueError, match="2 ones and 0 zeros"):
        auroc([1.0, 2.0], [1, 1])
    with pytest.raises(ValueError, match="finite"):
        auroc([1.0, float("nan")], [0, 1])


@given(rows=scored, groups=st.lists(st.sampled_from("abc"), min_size=40, max_size=40))
def test_the_within_prompt_auroc_equals_counting_the_pairs(
    rows: list[tuple[int, int]], groups: list[str]
) -> None:
    groups = groups[: len(rows)]
    wins = [
        1.0 if a[0] > b[0] else 0.5 if a[0] == b[0] else 0.0
        for (a, group_a), (b, group_b) in itertools.product(
            zip(rows, groups, strict=True), repeat=2
        )
        if group_a == group_b and (a[1], b[1]) == (1, 0)
    ]
    scores, labels = zip(*rows, strict=True)
    found = within_prompt_auroc(scores, labels, groups)
    assert found == (pytest.approx(sum(wins) / len(wins)) if wins else None)


def test_a_probe_that_tells_prompts_apart_has_an_auroc_and_no_within_prompt_auroc() -> None:
    """Ten prompts; the opinionated ones have two responses of label 1 in three, the others one."""
    prompts = [f"p{n // 3}" for n in range(60)]
    labels = [int(n % 3 < (2 if n // 3 % 2 else 1)) for n in range(60)]
    of_prompt = [float(n // 3 % 2) for n in range(60)]  # the same for all responses to a prompt
    assert auroc(of_prompt, labels) > 0.65
    assert within_prompt_auroc(of_prompt, labels, prompts) == 0.5
    # The other way round: offsets by prompt hide a perfect ranking within it from the AUROC.
    offset = [10.0 * (n // 3) + label for n, label in enumerate(labels)]
    assert within_prompt_auroc(offset, labels, prompts) == 1.0
    assert auroc(offset, labels) < 0.6


def test_the_ranking_is_within_prompts_where_enough_prompts_have_both_labels() -> None:
    contexts = [str(n // 2) for n in range(10)]
    labels = [n % 2 for n in range(10)]
    scores = [10.0 * (n // 2) + label for n, label in enumerate(labels)]
    assert num_mixed_prompts(labels, contexts) == 5
    assert ranking(scores, labels, contexts) == 1.0
    # Four are too few, so the AUROC of all decides; and so it does where no prompt has both.
    assert ranking(scores[:8], labels[:8], contexts[:8]) == auroc(scores[:8], labels[:8]) < 1.0
    alone = [str(n) for n in range(10)]
    assert num_mixed_prompts(labels, alone) == 0
    assert ranking(scores, labels, alone) == auroc(scores, labels)


def test_the_interval_holds_the_auroc_and_shrinks_with_more_groups() -> None:
    def interval(n: int) -> tuple[float, float, float]:
        x, y, direction = planted(n, 4, seed=6, strength=1.0)
        groups = [str(row // 2) for row in range(n)]
        scores = x @ direction
        found = auroc_interval(scores, y, groups, seed=0, num_resamples=200)
        assert found is not None
        return auroc(scores, y), *found

    value, low, high = interval(80)
    assert low < value < high
    _, many_low, many_high = interval(1280)
    assert many_high - many_low < 0.5 * (high - low)


def test_the_interval_resamples_groups_and_not_rows() -> None:
    rng = np.random.default_rng(7)
    labels = np.tile([0, 1], 20)
    scores = labels + rng.normal(scale=1.5, size=40)
    copies = 10  # every row ten times: as groups no new information, as rows tenfold
    by_group = auroc_interval(scores, labels, [str(n // 2) for n in range(40)], seed=0)
    scores, labels = np.repeat(scores, copies), np.repeat(labels, copies)
    groups = [str(n // (2 * copies)) for n in range(400)]
    assert auroc_interval(scores, labels, groups, seed=0) == pytest.approx(by_group)
    by_row = auroc_interval(scores, labels, [str(n) for n in range(400)], seed=0)
    assert by_row is not None
    assert by_group is not None
    assert by_row[1] - by_row[0] < 0.5 * (by_group[1] - by_group[0])


def test_an_interval_that_cannot_be_is_none() -> None:
    assert auroc_interval([1.0, 2.0], [1, 1], ["a", "b"], seed=0) is None
    assert auroc_interval([1.0, 2.0], [0, 1], ["a", "a"], seed=0) is None  # one group


def test_the_within_prompt_interval_resamples_groups_of_which_each_pair_counts() -> None:
    # Poem "a" has two prompts: one with four pairs, all won, one with one pair, won. "b" and "c"
    # have one pair each, and c's is lost.
    scores, labels = [3, 3, 1, 1, 9, 8, 5, 4, 4, 5], [1, 1, 0, 0, 1, 0, 1, 0, 1, 0]
    contexts = ["a1"] * 4 + ["a2"] * 2 + ["b"] * 2 + ["c"] * 2
    groups = ["a"] * 6 + ["b"] * 2 + ["c"] * 2
    assert within_prompt_auroc(scores, labels, contexts) == pytest.approx(6 / 7)
    found = within_prompt_interval(scores, labels, contexts, groups, seed=0)
    assert found is not None
    assert 0.0 <= found[0] < 6 / 7 < found[1] == 1.0
    # Per pair, not per prompt: repeated, the interval closes around the same value.
    many = within_prompt_interval(
        scores * 60,
        labels * 60,
        [f"{n} {name}" for n in range(60) for name in contexts],
        [f"{n} {name}" for n in range(60) for name in groups],
        seed=0,
    )
    assert many is not None
    assert 0.78 < many[0] < 6 / 7 < many[1] < 0.93
    assert within_prompt_interval(scores, [1] * 10, contexts, groups, seed=0) is None


def test_tpr_at_fpr_by_hand() -> None:
    zeros, ones = np.arange(100), np.array([50, 98, 98.5, 99, 120])
    scores = np.concatenate([zeros, ones])
    labels = np.repeat([0, 1], [100, 5])
    assert tpr_at_fpr(scores, labels, 0.01) == 3 / 5  # one of 100 may be above: the threshold is 98
    assert tpr_at_fpr(scores, labels, 0.0) == 1 / 5
    assert tpr_at_fpr(scores, labels, 0.49) == 4 / 5
    assert tpr_at_fpr(scores, labels, 1.0) == 1.0
    with pytest.raises(ValueError, match="0 zeros"):
        tpr_at_fpr(ones, [1] * 5, 0.01)


@given(rows=scored, fpr=st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_tpr_at_fpr_is_the_best_threshold_that_keeps_the_rate(
    rows: list[tuple[int, int]], fpr: float
) -> None:
    scores, labels = map(np.array, zip(*rows, strict=True))
    allowed = [
        (scores[labels == 1] > threshold).mean()
        for threshold in [-np.inf, *scores]
        if (scores[labels == 0] > threshold).mean() <= fpr
    ]
    assert tpr_at_fpr(scores, labels, fpr) == max(allowed)


def test_the_threshold_that_catches_four_in_five_by_hand() -> None:
    ones = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert threshold_at_tpr(ones, 0.8) == 2.0
    assert rate_above(ones, 2.0) == 0.8
    assert rate_above([1.9, 2.0, 7.0, 0.0], 2.0) == 0.5
    for bad in (([], 0.8), (ones, 0.0), (ones, 1.1)):
        with pytest.raises(ValueError, match="needs label-1 scores"):
            threshold_at_tpr(*bad)
    with pytest.raises(ValueError, match="no scores"):
        rate_above([], 2.0)


@given(
    ones=st.lists(st.integers(-5, 5), min_size=1, max_size=30),
    tpr=st.sampled_from([0.1, 0.5, 0.8, 0.9, 1.0]),
)
def test_the_threshold_is_the_highest_that_catches_enough(ones: list[int], tpr: float) -> None:
    threshold = threshold_at_tpr(ones, tpr)
    assert rate_above(ones, threshold) >= tpr
    higher = [one for one in ones if one > threshold]
    assert not higher or rate_above(ones, min(higher)) < tpr


def test_shuffled_labels_score_about_one_half_where_true_labels_score_high() -> None:
    x, y, direction = planted(1200, 8, seed=8)
    values = shuffled_label_aurocs(
        x[:600], y[:600], x[600:], y[600:], C=0.03, seed=0, permutations=40
    )
    assert abs(np.mean(values) - 0.5) < 0.08
    assert auroc(x[600:] @ direction, y[600:]) > 0.95
    assert len(set(values)) == 40  # every permutation is another one


def test_the_length_control_is_oriented_on_the_training_part() -> None:
    labels = np.array([0, 0, 1, 1])
    shorter_is_one = np.array([9, 8, 2, 1])
    assert length_sign(shorter_is_one, labels) == -1
    assert length_sign(-shorter_is_one, labels) == 1
    sign = length_sign(shorter_is_one, labels)
    assert auroc(sign * shorter_is_one, labels) == 1.0
    assert auroc(sign * shorter_is_one[::-1], labels) == 0.0  # not turned round on other data


def test_a_summary_states_the_size_of_the_part_and_nothing_where_there_is_one_label() -> None:
    prompts = ["a", "a", "b", "b"]
    stated = summarise([0.0, 1.0, 0.5, 2.0], [0, 1, 0, 1], prompts, prompts, seed=0)
    assert stated["auroc"] == stated["within_prompt_auroc"] == stated["tpr_at_1_fpr"] == 1.0
    assert stated["num_mixed_prompts"] == 2
    assert (stated["num_rows"], stated["num_groups"]) == (4, 2)
    one_label = summarise([0.0, 1.0], [0, 0], ["a", "b"], ["a", "b"], seed=0)
    assert set(one_label) == set(stated)
    assert {name for name, value in one_label.items() if value is not None} == {
        "num_rows", "num_groups", "num_mixed_prompts",
    }  # fmt: skip
