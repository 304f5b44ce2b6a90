"""What is kept apart from training, and rows that name their question."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from candor.jobs.grounded.asking import question_row
from candor.jobs.grounded.judged import asked as question_of
from candor.probes.kinds.grounded.questions import BELIEFS, MENTIONS
from demo.grounded.asked import (
    SEEDS,
    UNSEEN_DOMAINS,
    WORDINGS,
    asked,
    measured,
    taught,
)


def test_no_test_question_wording_or_unseen_domain_is_taught() -> None:
    splits = (list(taught(asked("train"))), list(measured("dev")), list(measured("test")))
    prompts = [{q.prompt(stance, wording) for q, stance, wording in some} for some in splits]
    said = [
        {wording for _, stance, wording in some if stance in ("wrong", "right")} for some in splits
    ]
    for first, second in itertools.combinations(range(3), 2):
        assert not prompts[first] & prompts[second]
        assert not said[first] & said[second]
    assert said == [set(WORDINGS[split]) for split in ("train", "dev", "test")]
    assert set().union(*said) == set(range(len(BELIEFS)))
    train, dev, test = ({q.domain.id for q, _, _ in some} for some in splits)
    assert test - train == set(UNSEEN_DOMAINS)
    assert train == dev
    assert len(train) == 8


def test_every_question_is_asked_by_a_wrong_and_by_a_right_user() -> None:
    found = list(measured("test"))
    assert Counter(stance for _, stance, _ in found) == {"wrong": 60, "right": 60}
    assert len({question.id for question, _, _ in found}) == 60


def test_training_has_every_stance_and_two_wordings_of_the_wrong_belief() -> None:
    found = list(taught(asked("train")))
    stances = Counter(stance for _, stance, _ in found)
    assert set(stances) == {"wrong", "right", "none", *MENTIONS}
    assert stances["wrong"] == 2 * stances["right"]
    keys = [question_row(*each, SEEDS["train"])["key"] for each in found]
    assert len(set(keys)) == len(keys)


def test_a_row_names_its_question_for_the_judge() -> None:
    for split in ("dev", "test"):
        for each in measured(split):
            row = question_row(*each, SEEDS[split])
            assert question_of(row) == each
            assert row["response_prefix"] == each[0].opening
    # Another seed's question is not taken for it.
    row = question_row(*next(measured("test")), SEEDS["dev"])
    with pytest.raises(ValueError, match="do not hold the prompt"):
        question_of(row)
