"""Kind `capitulation`: an apology is not the label, and neither is a changed answer."""

from __future__ import annotations

from collections import Counter

import pytest

from candor.probes.fitting.data import Row, data_sha256
from candor.probes.kinds.capitulation import (
    CLOSINGS,
    PUSHES,
    REPLIES,
    DisputedQuestion,
    capitulation_rows,
    shipped_questions,
)
from tests.probes.kinds.texts import length_auroc, opening, responses

ENTRIES = shipped_questions()
ROWS = capitulation_rows(ENTRIES, seed=0)


def turns(row: Row) -> list[str]:
    assert row.messages is not None
    assert [turn.role for turn in row.messages] == ["user", "assistant", "user"]
    return [turn.content for turn in row.messages]


def says(text: str, answer: str) -> bool:
    return answer.lower() in text.lower()


def test_the_rows_are_a_function_of_entries_and_seed() -> None:
    again = capitulation_rows(shipped_questions(), seed=0)
    assert again == ROWS
    assert data_sha256(again) == data_sha256(ROWS)
    assert data_sha256(ROWS) != data_sha256(capitulation_rows(ENTRIES, seed=1))
    assert capitulation_rows(ENTRIES[1:], seed=0) == ROWS[3:]


def test_caved_a_right_answer_is_given_up_for_the_wrong_one() -> None:
    for entry, row in zip(ENTRIES, ROWS[::3], strict=True):
        asked, first, _ = turns(row)
        assert (row.label, row.direction) == (1, "wrong")
        assert asked == entry.question
        assert says(first, entry.right)
        assert says(row.response, entry.wrong)
        assert not row.response.endswith(entry.explain_right)


def test_stood_a_right_answer_is_kept_under_the_same_prompt() -> None:
    for entry, caved, row in zip(ENTRIES, ROWS[::3], ROWS[1::3], strict=True):
        assert (row.label, row.direction) == (0, "wrong")
        assert row.context == caved.context
        assert says(row.response, entry.right)
        assert not row.response.endswith(entry.explain_wrong)
        assert opening(row.response).split()[0] == opening(caved.response).split()[0]
        assert row.group == caved.group


def test_corrected_a_wrong_answer_is_given_up_for_the_right_one() -> None:
    for entry, row in zip(ENTRIES, ROWS[2::3], strict=True):
        _, first, _ = turns(row)
        assert (row.label, row.direction) == (0, "right")
        assert says(first, entry.wrong)
        assert says(row.response, entry.right)
        assert row.group == f"capitulation/{entry.id}"


def test_a_push_that_names_an_answer_names_the_one_that_was_not_given() -> None:
    named = 0
    for index, row in enumerate(ROWS):
        entry, (_, _, push) = ENTRIES[index // 3], turns(row)
        if push not in PUSHES:
            named += 1
            assert says(push, entry.right if row.direction == "right" else entry.wrong)
    assert 0.3 < named / len(ROWS) < 0.7


def test_right_and_wrong_pushes_come_in_the_same_wordings() -> None:
    plain = {
        lean: {turns(row)[2] for row in ROWS if row.direction == lean}
        for lean in ("right", "wrong")
    }
    assert plain["right"] & plain["wrong"] >= {push for push in PUSHES if "{other}" not in push}


def test_the_label_is_balanced_where_a_right_answer_was_pushed() -> None:
    pushed = Counter((row.group, row.label) for row in ROWS if row.direction == "wrong")
    assert set(pushed.values()) == {1}
    assert len(pushed) == 2 * len(ENTRIES)
    assert len(ENTRIES) >= 60


@pytest.mark.parametrize("words", ["apologise", "You're absolutely right", "I'm sorry", "wrong"])
def test_what_sounds_like_giving_in_is_heard_under_both_labels(words: str) -> None:
    many = [row for seed in range(5) for row in capitulation_rows(ENTRIES, seed=seed)]
    share = [
        sum(words in reply for reply in replies) / len(replies)
        for replies in (responses(many, 1), responses(many, 0))
    ]
    assert min(share) > 0.3 * max(share) > 0


def test_twin_frames_open_alike_and_are_alike_in_length() -> None:
    for changes, stands in REPLIES:
        assert changes.split()[0].strip(",!") == stands.split()[0].strip(",!")
        assert abs(len(changes.split()) - len(stands.split())) <= 1
        assert "{" not in "".join(CLOSINGS)


@pytest.mark.parametrize("seed", range(10))
def test_length_does_not_tell_the_label(seed: int) -> None:
    rows = capitulation_rows(ENTRIES, seed=seed)
    assert 0.43 < length_auroc(responses(rows, 1), responses(rows, 0)) < 0.57
    pushed = [row for row in rows if row.direction == "wrong"]
    assert 0.43 < length_auroc(responses(pushed, 1), responses(pushed, 0)) < 0.57


def test_no_text_is_there_twice_and_no_slot_is_left_open() -> None:
    assert len({(row.context, row.response) for row in ROWS}) == len(ROWS)
    assert len({entry.question for entry in ENTRIES}) == len(ENTRIES)
    reasons = [reason for e in ENTRIES for reason in (e.explain_right, e.explain_wrong)]
    assert len(set(reasons)) == len(reasons)
    assert all(entry.right.lower() != entry.wrong.lower() for entry in ENTRIES)
    assert not any("{" in text for row in ROWS for text in (*turns(row), row.response))


def test_no_entries_and_a_repeated_id_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="'mine': no entries"):
        capitulation_rows([], kind="mine", seed=0)
    entry = DisputedQuestion(
        id="q", question="?", right="a", wrong="b", explain_right="c", explain_wrong="d"
    )
    with pytest.raises(ValueError, match="entry 2 repeats the id 'q'"):
        capitulation_rows([entry, entry], seed=0)
