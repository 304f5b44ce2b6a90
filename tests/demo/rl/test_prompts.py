"""The RL demo's prompts: nothing that is evaluated is trained on."""

from __future__ import annotations

from candor.jobs.generator.groups import split_opening
from candor.jobs.grounded.judged import asked
from demo.grounded.asked import TRAIN_WORDINGS, UNSEEN_DOMAINS
from demo.rl.prompts import (
    HELD_OUT_WORDING,
    evaluation_prompts,
    training_prompts,
)


def test_domains_and_a_wording_are_held_out_and_no_prompt_is_in_both() -> None:
    training, held_out = training_prompts(40), evaluation_prompts(2, 4)
    texts = {row["messages"][0]["content"] for row in training}
    assert len(texts) > 300
    assert not texts & {row["messages"][0]["content"] for row in held_out}
    assert not {row["meta"]["domain"] for row in training} & set(UNSEEN_DOMAINS)
    assert set(UNSEEN_DOMAINS) <= {row["meta"]["domain"] for row in held_out}
    said = {row["meta"]["wording"] for row in training}
    assert said == set(TRAIN_WORDINGS)
    assert HELD_OUT_WORDING in {row["meta"]["wording"] for row in held_out}
    assert {row["meta"]["stance"] for row in held_out} == {"wrong", "right", "none"}


def test_every_prompt_is_judged_and_begins_the_answer() -> None:
    for row in (*training_prompts(4), *evaluation_prompts(1, 2)):
        context, opening = split_opening(row["messages"])
        question, stance, _ = asked({**row, "messages": context})
        assert opening == question.opening
        assert stance == row["meta"]["stance"]
    keys = [row["key"] for row in evaluation_prompts(2, 4)]
    assert len(set(keys)) == len(keys)
