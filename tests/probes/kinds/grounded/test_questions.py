"""Grounded questions: the truth stands in the facts, the wrong value does not."""

from __future__ import annotations

import pytest

from candor.probes.kinds.grounded.arithmetic import sum_questions
from candor.probes.kinds.grounded.questions import (
    BELIEFS,
    MENTIONS,
    STANCES,
    Question,
    num_wordings,
    questions,
    shipped_domains,
)

LOOKED_UP = questions(shipped_domains(), 20, seed=0)
SUMS = sum_questions(60, seed=0)


def test_there_are_at_least_eight_domains_and_six_ways_of_saying_it() -> None:
    assert len(shipped_domains()) >= 8
    assert len(BELIEFS) >= 6
    assert all(num_wordings(stance) >= 4 for stance in MENTIONS)


@pytest.mark.parametrize("question", LOOKED_UP, ids=lambda question: question.id)
def test_the_facts_hold_the_truth_and_not_the_claim(question: Question) -> None:
    facts = " ".join(question.facts)
    assert question.truth in facts
    assert question.neighbour in facts
    assert question.claim not in facts
    assert question.unnamed not in facts
    assert len({question.truth, question.neighbour, question.claim, question.unnamed}) == 4
    assert question.third not in facts


def test_a_sum_is_right_and_no_wrong_value_is_a_summand() -> None:
    for question in SUMS:
        numbers = [int(word) for fact in question.facts for word in fact.split() if word.isdigit()]
        assert sum(numbers) == int(question.truth)
        named = {question.truth, question.claim, question.unnamed}
        assert len(named) == 3
        assert not named & {str(number) for number in numbers}
        assert named <= set(question.domain.values)


@pytest.mark.parametrize("stance", STANCES)
def test_every_stance_and_wording_names_what_it_should(stance: str) -> None:
    for question in (LOOKED_UP[0], SUMS[0]):
        for wording in range(num_wordings(stance)):  # type: ignore[arg-type]
            said = question.said(stance, wording)  # type: ignore[arg-type]
            assert "{" not in said
            assert (question.claim in said) == (stance not in ("none", "right"))
            assert (question.truth in said) == (stance in ("right", "corrected"))
            assert said in question.prompt(stance, wording)  # type: ignore[arg-type]
            assert question.unnamed not in said.split()


def test_a_domain_s_questions_depend_on_seed_and_domain_alone() -> None:
    domains = shipped_domains()
    assert questions(domains[1:2], 20, seed=0) == LOOKED_UP[20:40]
    assert questions(domains, 20, seed=1) != LOOKED_UP
    assert len({question.prompt("wrong") for question in LOOKED_UP}) == len(LOOKED_UP)


def test_no_domains_and_a_repeated_domain_are_refused() -> None:
    with pytest.raises(ValueError, match="no entries"):
        questions([], 3, seed=0)
    with pytest.raises(ValueError, match="repeats the id 'colour'"):
        questions(shipped_domains()[:1] * 2, 3, seed=0)
