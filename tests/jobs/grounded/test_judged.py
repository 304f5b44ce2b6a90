"""Judged rows: the question comes back from `meta`, and shares are those of enumerating subsets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candor.flags import UsageError
from candor.jobs.grounded.judged import (
    VERDICTS,
    asked,
    judged_prompts,
    verdict_shares,
    with_verdicts,
)
from candor.probes.kinds.grounded.arithmetic import sum_questions
from candor.probes.kinds.grounded.questions import (
    STANCES,
    Question,
    Stance,
    num_wordings,
    questions,
    shipped_domains,
)
from tests.client.replies import numbers
from tests.jobs.enumeration import by_enumeration

PATH = Path("scored.jsonl")
SEED = 7
ASKED = [*questions(shipped_domains(), 3, seed=SEED), *sum_questions(3, seed=SEED)]


def row_of(question: Question, stance: Stance, wording: int = 0) -> dict[str, Any]:
    """A scored row with six answers, of every verdict that the stance allows."""
    values = (question.truth, question.claim, question.neighbour, question.claim, question.truth)
    texts = [f"{question.opening} {value}." for value in values] + ["I cannot tell."]
    key = f"{question.id}/{stance}/{wording}"
    return {
        "key": key,
        "messages": [{"role": "user", "content": question.prompt(stance, wording)}],
        "meta": {
            "domain": question.domain.id,
            "question": question.number,
            "seed": SEED,
            "stance": stance,
            "wording": wording,
        },
        "responses": [{"text": text, "finish_reason": "stop"} for text in texts],
        "scores": [numbers(f"{key} {text}", 0.5) for text in texts],
    }


def test_every_question_comes_back_from_its_row() -> None:
    for question in ASKED:
        for stance in STANCES:
            for wording in range(num_wordings(stance)):
                assert asked(row_of(question, stance, wording)) == (question, stance, wording)


def test_verdicts_are_those_of_the_values_given() -> None:
    question = ASKED[0]
    wrong, right, none = judged_prompts(
        PATH, [row_of(question, stance) for stance in ("wrong", "right", "none")]
    )
    assert wrong.verdicts == ("truth", "user", "other", "user", "truth", "none")
    assert right.verdicts == none.verdicts == ("truth", "other", "other", "other", "truth", "none")
    assert wrong.indicator("user").tolist() == [0, 1, 0, 1, 0, 0]


@pytest.mark.parametrize("rule", ["random", "base_reward", "reward"])
@pytest.mark.parametrize("n", [1, 3, 6])
def test_shares_are_those_of_enumerating_every_subset(rule: Any, n: int) -> None:
    rows = [row_of(question, "wrong") for question in ASKED]
    shares = verdict_shares(judged_prompts(PATH, rows), rule, n)
    for row, found in zip(rows, shares, strict=True):
        rewards = [0.0 if rule == "random" else one[rule] for one in row["scores"]]
        weights = by_enumeration(rewards, n)
        # Places of each verdict in `row_of`, written out.
        wanted = [weights[[0, 4]].sum(), weights[[1, 3]].sum(), weights[2], weights[5]]
        np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert VERDICTS == ("truth", "user", "other", "none")


def test_a_random_pick_is_the_share_among_the_responses_and_the_best_is_not() -> None:
    prompts = judged_prompts(PATH, [row_of(question, "wrong") for question in ASKED])
    random = verdict_shares(prompts, "random", 1)
    np.testing.assert_allclose(random, [[2 / 6, 2 / 6, 1 / 6, 1 / 6]] * len(prompts))
    np.testing.assert_allclose(verdict_shares(prompts, "base_reward", 1), random)
    assert np.abs(verdict_shares(prompts, "base_reward", 6) - random).max() > 0.3


def test_other_rewards_choose_in_place_of_the_rule() -> None:
    prompts = judged_prompts(PATH, [row_of(question, "wrong") for question in ASKED])
    by_user = [prompt.indicator("user") for prompt in prompts]
    shares = verdict_shares(prompts, "reward", 6, by_user)
    np.testing.assert_allclose(shares, [[0, 1, 0, 0]] * len(prompts))


def test_equal_rewards_share_the_choice_evenly() -> None:
    row = row_of(ASKED[0], "wrong")
    for one in row["scores"]:
        one |= {"base_reward": 1.0, "reward": 1.0, "penalty": 0.0, "probes": {}}
    shares = verdict_shares(judged_prompts(PATH, [row]), "reward", 6)
    np.testing.assert_allclose(shares, [[2 / 6, 2 / 6, 1 / 6, 1 / 6]])


def test_rows_without_scores_are_judged_and_failures_left_out() -> None:
    rollout = row_of(ASKED[0], "wrong")
    del rollout["scores"]
    failed = {**row_of(ASKED[1], "wrong"), "error": {"type": "too_long", "message": "x"}}
    partly = row_of(ASKED[2], "wrong")
    partly["scores"][1] = {"error": {"type": "empty_response", "message": "x"}}
    first, second = judged_prompts(PATH, [rollout, failed, partly])
    assert first.verdicts == ("truth", "user", "other", "user", "truth", "none")
    assert first.group is None
    assert second.verdicts == ("truth", "other", "user", "truth", "none")
    with pytest.raises(ValueError, match="has no scores, so reward chooses nothing"):
        verdict_shares([first], "reward", 2)
    assert verdict_shares([first], "random", 1)[0, 0] == pytest.approx(2 / 6)


def test_verdicts_can_be_written_into_a_row() -> None:
    row = row_of(ASKED[0], "wrong")
    judged = with_verdicts(PATH, row)
    assert [one["verdict"] for one in judged["responses"]] == [
        "truth", "user", "other", "user", "truth", "none",
    ]  # fmt: skip
    assert "verdict" not in row["responses"][0]
    assert {**judged, "responses": None} == {**row, "responses": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"meta": None}, "'meta' is not an object"),
        ({"stance": "sure"}, "meta.stance is 'sure'; it is one of none, wrong"),
        ({"domain": "sky"}, "meta.domain is 'sky'; it is one of colour"),
        ({"question": "1"}, "meta.question is '1', not a whole number"),
        ({"question": True}, "meta.question is True, not a whole number"),
        ({"question": -1}, "meta.question is -1; questions are counted from 0"),
        ({"seed": None}, "meta.seed is None, not a whole number"),
        ({"wording": 10}, "meta.wording is 10; stance 'wrong' has the wordings 0 to 9"),
        ({"question": 2}, "the messages do not hold the prompt that meta names"),
        ({"seed": 8}, "the messages do not hold the prompt that meta names"),
    ],
)
def test_a_row_that_does_not_name_its_question_is_refused(
    change: dict[str, Any], message: str
) -> None:
    row = row_of(ASKED[0], "wrong")
    row["meta"] = None if "meta" in change else {**row["meta"], **change}
    for read in (lambda: judged_prompts(PATH, [row]), lambda: with_verdicts(PATH, row)):
        with pytest.raises(UsageError, match=r"^scored\.jsonl: key 'grounded/") as caught:
            read()
        assert message in str(caught.value)


def test_a_prompt_with_an_earlier_turn_or_the_template_is_still_known() -> None:
    row = row_of(ASKED[0], "wrong")
    text = row["messages"][0]["content"]
    asked_of = asked(row)
    earlier = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello!"}]
    assert asked({**row, "messages": [*earlier, *row["messages"]]}) == asked_of
    assert asked({"meta": row["meta"], "prompt": f"<user>{text}</user><assistant>"}) == asked_of
