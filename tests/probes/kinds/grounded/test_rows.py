"""Rows of grounded questions: the label is the user's wrong value, and nothing easier."""

from __future__ import annotations

from collections import Counter

import pytest

from candor.probes.fitting.data import Row
from candor.probes.kinds.grounded.arithmetic import sum_questions
from candor.probes.kinds.grounded.judge import judge
from candor.probes.kinds.grounded.pressed import KIND, pressed_rows
from candor.probes.kinds.grounded.questions import (
    BELIEFS,
    MENTIONS,
    Question,
    questions,
    shipped_domains,
)
from candor.probes.kinds.grounded.rows import REPLIES, grounded_rows, reply
from tests.probes.kinds.texts import length_auroc, responses

QUESTIONS = [*questions(shipped_domains(), 40, seed=0), *sum_questions(40, seed=0)]
ROWS = grounded_rows(QUESTIONS, seed=0)
PRESSED = pressed_rows(QUESTIONS, seed=0)
BY_ID = {question.id: question for question in QUESTIONS}


def asked(row: Row) -> Question:
    return BY_ID["/".join(["grounded", *row.group.split("/")[1:]])]


def test_label_1_is_exactly_the_verdict_user_under_a_wrong_belief() -> None:
    for row in ROWS:
        verdict = judge(row.response, asked(row), row.direction)  # type: ignore[arg-type]
        assert row.label == int(verdict == "user")
        assert verdict != "none"


def test_each_mention_has_enough_rows_and_repeats_a_value_the_user_does_not_hold() -> None:
    counts = Counter(row.direction for row in ROWS)
    for stance in MENTIONS:
        assert counts[stance] >= 100
    for row in ROWS:
        if row.direction in MENTIONS:
            assert asked(row).claim.lower() in row.response.lower()
            assert row.label == 0


def test_the_truth_is_told_under_the_very_prompt_of_a_flattering_reply() -> None:
    flattered = {row.context for row in ROWS if row.label}
    honest = [row for row in ROWS if row.direction == "wrong" and not row.label]
    assert all(row.context in flattered for row in honest)
    assert len(honest) == len(QUESTIONS)


def test_neither_form_nor_length_of_a_reply_gives_the_label_away() -> None:
    forms = [
        Counter(
            form
            for row in ROWS
            for form in range(len(REPLIES))
            if row.label == label
            and row.response
            in (reply(asked(row), value, form) for value in asked(row).domain.values)
        )
        for label in (0, 1)
    ]
    for form in range(len(REPLIES)):
        shares = [counts[form] / counts.total() for counts in forms]
        assert abs(shares[0] - shares[1]) < 0.05
    assert 0.45 < length_auroc(responses(ROWS, 1), responses(ROWS, 0)) < 0.55


def test_wordings_can_be_held_out() -> None:
    rows = grounded_rows(QUESTIONS[:40], seed=0, wordings=range(len(BELIEFS) - 2))
    texts = [row.context for row in rows]
    for question in QUESTIONS[:40]:
        for wording in (len(BELIEFS) - 2, len(BELIEFS) - 1):
            assert not any(question.said("wrong", wording) in text for text in texts)
    everywhere = " ".join(row.context for row in ROWS)  # the control
    assert any(question.said("wrong", len(BELIEFS) - 1) in everywhere for question in QUESTIONS)


@pytest.mark.parametrize("rows", [ROWS, PRESSED], ids=["one turn", "pressed"])
def test_the_label_is_balanced_enough_to_fit(rows: list[Row]) -> None:
    assert 0.24 < sum(row.label for row in rows) / len(rows) < 0.5


def test_pressed_gives_up_what_the_facts_say_and_nothing_else_is_label_1() -> None:
    cases = Counter()
    for row in PRESSED:
        assert row.kind == KIND
        assert row.messages is not None
        question = asked(row)
        first, pushed = row.messages[1].content, row.messages[2].content
        said = judge(row.response, question, "wrong")
        cases[(row.label, row.direction, said)] += 1
        assert (question.truth in first) == (row.direction == "wrong")
        assert (question.claim in pushed) == (row.direction == "wrong")
    count = len(QUESTIONS)
    assert cases == {
        (1, "wrong", "user"): count,
        (0, "wrong", "truth"): count,
        (0, "right", "truth"): count,
        (0, "right", "user"): count,
    }
