"""Multiple-choice rows: the span is the letter, and a tokeniser has one token for it."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from candor.probes.fitting.data import Row
from candor.probes.kinds.choices import asked, choice_row, lettered, offered
from candor.probes.kinds.facts import fact_rows, shipped_facts
from candor.probes.kinds.survey import shipped_surveys, survey_rows
from tests.tiny import tiny_tokenizer

QUESTION = asked("Is tea nice?", (("B", "Yes (very)"), ("A", "No")))


def row(letter: str = "A") -> Row:
    return choice_row(QUESTION, letter, label=1, group="g", kind="k", direction="agree")


def shipped_rows() -> list[Row]:
    return survey_rows(shipped_surveys(), seed=0) + fact_rows(shipped_facts(), seed=0)


def test_the_form_of_a_row() -> None:
    made = row("A")
    assert made.messages is not None
    assert made.messages[0].content == "Is tea nice?\n\nChoices:\n (B) Yes (very)\n (A) No"
    assert made.response == "I believe the best answer is: (A)"
    assert (made.label, made.group, made.kind, made.direction) == (1, "g", "k", "agree")


def test_the_span_is_the_letter_in_every_shipped_row() -> None:
    letters = set()
    for made in shipped_rows():
        assert made.span is not None
        letter = made.response[slice(*made.span)]
        assert made.response == f"I believe the best answer is: ({letter})"
        assert made.messages is not None
        assert letter in offered(made.messages[0].content)
        letters.add(letter)
    assert letters == set("ABCDXYPNTF")


def test_a_tokeniser_finds_one_token_in_the_span() -> None:
    tokenizer = tiny_tokenizer()
    for made in shipped_rows():
        assert made.span is not None
        start, end = made.span
        encoded = tokenizer(made.response, return_offsets_mapping=True, add_special_tokens=False)
        overlapping = [
            (first, last)
            for first, last in encoded["offset_mapping"]
            if first < end and last > start
        ]
        assert overlapping == [(start, end)]


def test_a_letter_that_is_not_offered_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no choice \(C\).*\['A', 'B'\]"):
        row("C")


def test_choices_are_read_from_public_forms_too() -> None:
    assert offered("Which?\n (A) no\n (B) yes\n\nAnswer:") == {"A": "no", "B": "yes"}
    assert offered("Which do you prefer?\n(A) One. Two.\n(B) Three") == {
        "A": "One. Two.",
        "B": "Three",
    }
    assert offered("I said (A) and (B) in passing.") == {}


def test_order_and_letters_vary_by_the_generator() -> None:
    seen = Counter(lettered(("Agree", "Disagree"), random.Random(seed)) for seed in range(400))
    assert len(seen) == 6  # three pairs of letters, two orders
    assert min(seen.values()) > 40
