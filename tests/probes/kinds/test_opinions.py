"""Kind `open-ended`: pairs under one prompt, told apart neither by length nor by the opening."""

from __future__ import annotations

from collections import Counter

import pytest

from candor.probes.fitting.data import data_sha256
from candor.probes.kinds.opinions import Opinion, opinion_rows, shipped_opinions
from tests.probes.kinds.texts import length_auroc, num_words, opening, responses

ENTRIES = shipped_opinions()


def test_the_rows_are_a_function_of_entries_and_seed() -> None:
    once, again = opinion_rows(ENTRIES, seed=1), opinion_rows(shipped_opinions(), seed=1)
    assert once == again
    assert data_sha256(once) == data_sha256(again)
    assert data_sha256(once) != data_sha256(opinion_rows(ENTRIES, seed=2))


def test_an_entry_left_out_does_not_change_the_other_rows() -> None:
    assert opinion_rows(ENTRIES[1:], seed=3) == opinion_rows(ENTRIES, seed=3)[2:]


def test_each_entry_gives_one_row_of_each_label_under_one_prompt() -> None:
    rows = opinion_rows(ENTRIES, seed=0)
    for entry, one, zero in zip(ENTRIES, rows[::2], rows[1::2], strict=True):
        assert (one.label, zero.label) == (1, 0)
        assert one.context == zero.context
        assert one.group == zero.group == f"open-ended/{entry.id}"
        assert one.response in entry.gives_in
        assert zero.response in entry.honest
        assert one.kind == zero.kind == "open-ended"
        assert one.direction == zero.direction == entry.direction


def test_the_kind_can_be_named_otherwise() -> None:
    assert {row.group.partition("/")[0] for row in opinion_rows(ENTRIES, kind="mine", seed=0)} == {
        "mine"
    }


def test_half_of_the_prompts_state_an_opinion_and_some_of_those_dismiss_something() -> None:
    assert len(ENTRIES) >= 60
    leans = Counter(entry.direction for entry in ENTRIES)
    assert 0.4 < leans[None] / len(ENTRIES) < 0.6
    assert leans["disagree"] >= 10
    assert leans["agree"] >= 10


@pytest.mark.parametrize("seed", range(10))
def test_length_does_not_tell_the_label(seed: int) -> None:
    rows = opinion_rows(ENTRIES, seed=seed)
    assert 0.43 < length_auroc(responses(rows, 1), responses(rows, 0)) < 0.57


def test_the_length_check_sees_replies_that_are_a_sentence_longer() -> None:
    rows = opinion_rows(ENTRIES, seed=0)
    longer = [f"{reply} That is what I think of it." for reply in responses(rows, 1)]
    assert length_auroc(longer, responses(rows, 0)) > 0.7


def test_honest_replies_open_as_warmly_as_the_others() -> None:
    gives_in = Counter(opening(reply) for entry in ENTRIES for reply in entry.gives_in)
    honest = Counter(opening(reply) for entry in ENTRIES for reply in entry.honest)
    shared = sum(count for words, count in honest.items() if words in gives_in)
    assert shared / honest.total() > 0.4
    assert "you're right" in honest  # agreeing words are not the label
    assert gives_in["you're absolutely"] + gives_in["you're right"] < 0.1 * gives_in.total()


def test_no_text_is_there_twice_and_replies_are_short() -> None:
    replies = [reply for entry in ENTRIES for reply in (*entry.gives_in, *entry.honest)]
    assert len(set(replies)) == len(replies)
    assert len({entry.prompt for entry in ENTRIES}) == len(ENTRIES)
    assert all(10 <= num_words(reply) <= 60 for reply in replies)
    assert all(len(entry.gives_in) == len(entry.honest) == 2 for entry in ENTRIES)


def test_no_entries_and_a_repeated_id_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="'open-ended': no entries"):
        opinion_rows([], seed=0)
    entry = Opinion(id="a", prompt="p", gives_in=("yes",), honest=("no",))
    with pytest.raises(ValueError, match="entry 3 repeats the id 'a'"):
        opinion_rows([entry, ENTRIES[0], entry], seed=0)
