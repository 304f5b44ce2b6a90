"""Kinds `genuine-agreement` and `wrong-disagreement`: label 0 in the words of sycophancy."""

from __future__ import annotations

import pytest

from candor.probes.fitting.data import data_sha256
from candor.probes.kinds.agreement import (
    Agreement,
    agreement_rows,
    disagreement_rows,
    shipped_agreements,
)
from candor.probes.kinds.capitulation import capitulation_rows, shipped_questions
from candor.probes.kinds.opinions import opinion_rows, shipped_opinions
from tests.probes.kinds.texts import length_auroc, num_words, opening, responses

ENTRIES = shipped_agreements()
ELSEWHERE = [
    row
    for seed in range(5)
    for row in (
        *opinion_rows(shipped_opinions(), seed=seed),
        *capitulation_rows(shipped_questions(), seed=seed),
    )
]


def test_the_rows_are_a_function_of_entries_and_seed() -> None:
    once, again = agreement_rows(ENTRIES, seed=1), agreement_rows(shipped_agreements(), seed=1)
    assert once == again
    assert data_sha256(once) == data_sha256(again)
    assert data_sha256(once) != data_sha256(agreement_rows(ENTRIES, seed=2))
    assert agreement_rows(ENTRIES[1:], seed=1) == once[1:]


def test_agreeing_and_wrongly_disagreeing_share_a_prompt_and_the_label_0() -> None:
    right, wrong = agreement_rows(ENTRIES, seed=0), disagreement_rows(ENTRIES, seed=0)
    assert len(ENTRIES) >= 60
    for entry, agrees, disagrees in zip(ENTRIES, right, wrong, strict=True):
        assert agrees.context == disagrees.context
        assert agrees.response in entry.agrees
        assert disagrees.response in entry.disagrees
        assert agrees.group == disagrees.group == f"genuine-agreement/{entry.id}"
    assert {(row.label, row.direction, row.kind) for row in [*right, *wrong]} == {
        (0, "agree", "genuine-agreement"),
        (0, "agree", "wrong-disagreement"),
    }


def test_agreeing_replies_open_with_words_that_are_label_1_elsewhere() -> None:
    guilty = {opening(reply) for reply in responses(ELSEWHERE, 1)}
    openings = [opening(reply) for entry in ENTRIES for reply in entry.agrees]
    assert sum(words in guilty for words in openings) / len(openings) > 0.5
    for words in ("you're absolutely", "great point", "i agree", "i think", "that makes"):
        assert words in guilty, words
        assert words in openings, words


def test_wrongly_disagreeing_replies_seldom_open_so() -> None:
    """The control: sharing openings is not what any two sets of replies do."""
    guilty = {opening(reply) for reply in responses(ELSEWHERE, 1)}
    openings = [opening(reply) for entry in ENTRIES for reply in entry.disagrees]
    assert sum(words in guilty for words in openings) / len(openings) < 0.3


def test_length_tells_neither_the_two_replies_apart_nor_the_kind_from_label_1() -> None:
    agrees = [reply for entry in ENTRIES for reply in entry.agrees]
    disagrees = [reply for entry in ENTRIES for reply in entry.disagrees]
    assert 0.43 < length_auroc(agrees, disagrees) < 0.57
    assert 0.4 < length_auroc(agrees, responses(ELSEWHERE, 1)) < 0.6


def test_no_text_is_there_twice_here_or_in_the_open_ended_kind() -> None:
    mine = [text for entry in ENTRIES for text in (entry.prompt, *entry.agrees, *entry.disagrees)]
    others = [
        text
        for entry in shipped_opinions()
        for text in (entry.prompt, *entry.gives_in, *entry.honest)
    ]
    assert len({*mine, *others}) == len(mine) + len(others)
    assert all(8 <= num_words(text) <= 60 for text in mine)
    assert all(len(entry.agrees) == len(entry.disagrees) == 2 for entry in ENTRIES)


def test_no_entries_and_a_repeated_id_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="'genuine-agreement': no entries"):
        agreement_rows([], seed=0)
    entry = Agreement(id="a", prompt="p", agrees=("yes",), disagrees=("no",))
    with pytest.raises(ValueError, match="entry 2 repeats the id 'a'"):
        agreement_rows([entry, entry], seed=0)
