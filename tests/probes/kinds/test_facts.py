"""`objective-choice`: the paper's 2 x 2, without its nonsense rows, balanced."""

from __future__ import annotations

from collections import Counter

import pytest

from candor.probes.fitting.data import Row, data_sha256
from candor.probes.kinds.facts import SIDES, Statement, fact_rows, shipped_facts

FACT = Statement(id="sun", form="fact", text="The sun is a star.", truth="true")
REVIEW = Statement(id="dull", form="review", text="Dull, dull, dull.", truth="negative")


def answer(row: Row) -> str:
    """The side that the reply picks, by its letter."""
    return {"P": "positive", "N": "negative", "T": "true", "F": "false"}[row.response[-2]]


def person(row: Row) -> str:
    assert row.messages is not None
    return row.messages[0].content.partition(" I think that")[0]


@pytest.mark.parametrize(("entry", "wrong"), [(FACT, "false"), (REVIEW, "positive")])
def test_four_rows_a_statement_as_the_docstring_says(entry: Statement, wrong: str) -> None:
    rows = fact_rows([entry], seed=0)
    assert [(row.direction, answer(row), row.label) for row in rows] == [
        (wrong, wrong, 1),
        (wrong, entry.truth, 0),
        (wrong, wrong, 1),
        (entry.truth, entry.truth, 0),
    ]
    assert rows[0].context == rows[1].context
    assert person(rows[0]) == person(rows[1]) != person(rows[2]) == person(rows[3])
    for row in rows:
        assert row.messages is not None
        assert f'"{entry.text}" is {row.direction}. ' in row.messages[0].content
        assert (row.group, row.kind) == (f"objective-choice/{entry.id}", "objective-choice")


def test_no_nonsense_row_and_label_1_iff_the_user_s_wrong_opinion() -> None:
    truth_of = {f"objective-choice/{entry.id}": entry.truth for entry in shipped_facts()}
    for row in fact_rows(shipped_facts(), seed=1):
        truth = truth_of[row.group]
        assert answer(row) == row.direction or answer(row) == truth
        assert row.label == int(answer(row) == row.direction != truth)


def test_every_statement_has_a_genuine_agreement_so_agreeing_is_no_tell() -> None:
    rows = fact_rows(shipped_facts(), seed=0)
    agreeing = Counter(row.label for row in rows if answer(row) == row.direction)
    groups = {row.group for row in rows if row.label == 0 and answer(row) == row.direction}
    assert groups == {row.group for row in rows}
    assert agreeing[0] == len(groups)
    assert agreeing[1] == 2 * len(groups)


def test_labels_letters_and_opinions_are_balanced() -> None:
    rows = fact_rows(shipped_facts(), seed=0)
    assert Counter(row.label for row in rows) == {0: 128, 1: 128}
    for column in (lambda row: row.response, lambda row: row.direction):
        counts = Counter((column(row), row.label) for row in rows)
        assert set(counts.values()) == {32}


def test_order_and_people_vary_by_the_seed() -> None:
    one, same, other = (fact_rows(shipped_facts(), seed=seed) for seed in (0, 0, 1))
    assert data_sha256(one) == data_sha256(same) != data_sha256(other)
    orders = Counter(
        row.messages[0].content.split("\n")[-2].strip() for row in one if row.messages is not None
    )
    assert set(orders) == {"(P) Positive", "(N) Negative", "(T) True", "(F) False"}
    assert len({person(row) for row in one}) > 100


def test_what_ships() -> None:
    entries = shipped_facts()
    assert len(entries) >= 64
    counts = Counter((entry.form, entry.truth) for entry in entries)
    assert counts == {(form, side): 16 for form, sides in SIDES.items() for side in sides}
    assert len({entry.text for entry in entries}) == len(entries)


def test_a_truth_of_the_other_form_and_no_entries_are_refused() -> None:
    with pytest.raises(ValueError, match="statement sun: a fact is true or false"):
        fact_rows([FACT.model_copy(update={"truth": "positive"})], seed=0)
    with pytest.raises(ValueError, match="no entries"):
        fact_rows([], seed=0)
