"""Preference pairs on grounded questions: whom they favour, and nothing else."""

from __future__ import annotations

from candor.probes.kinds.grounded.judge import Verdict, judge
from candor.probes.kinds.grounded.questions import Question
from demo.grounded.answers import MOST_OTHERS, Answered, labelled
from demo.grounded.asked import TRAIN_WORDINGS, asked
from demo.grounded.pairs import (
    MOST_SIDING,
    QUALITY,
    WRONG_WORDINGS,
    answer_preferences,
    composed_preferences,
)
from demo.poems.pairs import SIDING

QUESTIONS = asked("train")
BY_ID = {question.id: question for question in QUESTIONS}


def verdict(question: Question, prompt: str, reply: str) -> Verdict:
    """As the judge says it of a prompt whose stance is not known: wrong wherever one of the wrong
    prompts is meant."""
    wrong = {question.prompt("wrong", wording) for wording in TRAIN_WORDINGS}
    return judge(reply, question, "wrong" if prompt in wrong else "none")


def test_composed_siding_pairs_differ_in_the_value_alone_and_side_as_planted() -> None:
    pairs = list(composed_preferences(QUESTIONS, seed=0))
    siding = [pair for pair in pairs if pair.about == "siding"]
    assert len(siding) == WRONG_WORDINGS * len(QUESTIONS)
    for pair in siding:
        question = BY_ID[pair.group]
        with_user, against = (
            (pair.chosen, pair.rejected) if pair.sides else (pair.rejected, pair.chosen)
        )
        assert verdict(question, pair.prompt, with_user) == "user"
        assert verdict(question, pair.prompt, against) == "truth"

        def form(text: str, question: Question = question) -> str:
            for value in (question.claim, question.truth):
                text = text.replace(value, "_").replace(value.capitalize(), "_")
            return text

        assert form(with_user) == form(against)
    share = sum(bool(pair.sides) for pair in siding) / len(siding)
    assert abs(share - SIDING) < 0.05


def test_composed_quality_pairs_prefer_the_right_value_and_any_value_to_none() -> None:
    pairs = [pair for pair in composed_preferences(QUESTIONS, seed=0) if pair.about == "quality"]
    assert len(pairs) == 6 * len(QUESTIONS)
    better = {
        (verdict(BY_ID[p.group], p.prompt, p.chosen), verdict(BY_ID[p.group], p.prompt, p.rejected))
        for p in pairs
    }
    assert better == {("truth", "other"), ("truth", "none"), ("user", "none")}


def answered(stance: str = "wrong") -> Answered:
    question = QUESTIONS[0]
    texts = [
        f"{question.opening} {question.claim}.",
        f"{question.opening} {question.truth}.",
        f"{question.opening} {question.unnamed}.",
        f"{question.opening} a riddle.",
        f"{question.opening} either {question.claim} or {question.truth}.",
    ]
    verdicts = tuple(judge(text, question, stance) for text in texts)  # type: ignore[arg-type]
    return Answered((question, stance, 0), tuple(texts), verdicts)  # type: ignore[arg-type]


def test_pairs_of_answers_follow_the_judge() -> None:
    one = answered()
    assert one.verdicts == ("user", "truth", "other", "none", "none")
    pairs = list(answer_preferences([one] * 1, seed=0))
    of = dict(zip(one.answers, one.verdicts, strict=True))
    assert sum(pair.about == "siding" for pair in pairs) == min(MOST_SIDING, 1)
    found = {(of[p.chosen], of[p.rejected]) for p in pairs if p.about == "quality"}
    assert found == set(QUALITY)
    # Where nobody is wrong, nobody is sided with.
    calm = list(answer_preferences([answered("none")], seed=0))
    assert calm
    assert {pair.about for pair in calm} == {"quality"}


def test_labels_of_answers_and_what_is_left_out() -> None:
    rows = list(labelled([answered()]))
    question = QUESTIONS[0]
    assert [(row["label"], row["response"]) for row in rows] == [
        (1, f"{question.opening} {question.claim}."),
        (0, f"{question.opening} {question.truth}."),
        (0, f"{question.opening} {question.unnamed}."),
        (0, f"{question.opening} a riddle."),
    ]
    assert {row["kind"] for row in rows} == {f"grounded-{question.domain.id}"}
    # The same words under another stance are mistakes that flatter nobody.
    assert {row["label"] for row in labelled([answered("denied")])} == {0}
    many = Answered(
        (question, "wrong", 0),
        tuple(f"{question.opening} a riddle of {number} parts." for number in range(9)),
        ("none",) * 9,
    )
    assert len(list(labelled([many]))) == MOST_OTHERS
