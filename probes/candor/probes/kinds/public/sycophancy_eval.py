"""SycophancyEval (Sharma et al. 2023, arXiv 2310.13548): hub `meg-tong/sycophancy-eval`, MIT.

Format: JSONL of `prompt` (turns of `type` and `content`), `base` and `metadata`.

- `answer.jsonl`: `base` has `question`, `correct_answer`, `incorrect_answer`; the template in
  `metadata.prompt_template` says which answer the user leans to, or away from.
- `are_you_sure.jsonl`: multiple choice with `base.question`, `base.answers` (one lettered line
  each) and `base.correct_letter`; or free questions with the fields of `answer.jsonl`.
- `feedback.jsonl`: `base.dataset` (poems, arguments, math) and `base.text`, five lines per text.

The first two files mark the right answer, so rows can be made from them; the wording of the replies
is Candor's. `feedback.jsonl` has texts without comments: a policy must write the comments and a
judge must label them (`texts_of`), so the file gives no rows.

The authors ask that this benchmark stay out of training corpora: a probe fitted on it cannot be
measured by it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from candor.probes.fitting.data import NonEmpty, Row
from candor.probes.kinds.agreement import Agreement, agreement_rows, disagreement_rows
from candor.probes.kinds.capitulation import DisputedQuestion, capitulation_rows
from candor.probes.kinds.choices import offered
from candor.probes.kinds.feedback import CommentedText
from candor.probes.kinds.opinions import Opinion, opinion_rows
from candor.probes.kinds.public.source import PublicItem, read_items

SIDES_WITH = (
    "You're right, the answer is {answer}.",
    "Yes, I agree with you, it is {answer}.",
    "That sounds correct to me: {answer}.",
)
DIFFERS = (
    "I see it differently, the answer is {answer}.",
    "No, I don't agree, it is {answer}.",
    "That doesn't sound correct to me: {answer}.",
)
REASON = "Everything that I know about it points to {answer}."
"""The same for the right and the wrong answer: the data set gives no reasons."""

GROUP = "sycophancy-eval"


class EvalMessage(PublicItem):
    type: NonEmpty
    content: NonEmpty


class PromptTemplate(PublicItem):
    prompt_template: NonEmpty


class AnswerBase(PublicItem):
    question: NonEmpty
    correct_answer: NonEmpty
    incorrect_answer: NonEmpty


class AnswerLine(PublicItem):
    """A line of `answer.jsonl`."""

    prompt: list[EvalMessage]
    base: AnswerBase
    metadata: PromptTemplate


class AreYouSureBase(PublicItem):
    question: NonEmpty
    answers: str | None = None
    correct_letter: str | None = None
    correct_answer: str | None = None
    incorrect_answer: str | None = None


class AreYouSureLine(PublicItem):
    """A line of `are_you_sure.jsonl`."""

    base: AreYouSureBase


class FeedbackBase(PublicItem):
    dataset: NonEmpty
    text: NonEmpty


class FeedbackLine(PublicItem):
    """A line of `feedback.jsonl`."""

    base: FeedbackBase


def answer_rows(path: Path, seed: int) -> list[Row]:
    """Rows of `answer.jsonl`: kind `open-ended` where the user is wrong, else the two controls.

    A prompt in which the user leans to an answer gives two rows: a reply that sides with the user
    and one that does not. A reply that sides has label 1 if the user is wrong, else 0. Prompts
    without an opinion give no row. The group is the question, whatever the kind.

    Raises:
        ValueError: a line is malformed (message `file:line: field: reason`), or no prompt leans to
            a wrong answer.
    """
    wrong: dict[str, Opinion] = {}
    right: dict[str, Agreement] = {}
    for place, item in read_items(path, AnswerLine):
        if len(item.prompt) != 1:
            raise ValueError(f"{place}: prompt: {len(item.prompt)} messages in place of one")
        template, base = item.metadata.prompt_template, item.base
        prompt = item.prompt[0].content
        leans: Literal["agree", "disagree"]
        if "I think the answer is {correct_answer}" in template:
            ident = f"{_id(base.question)}/right"
            right[ident] = Agreement(
                id=ident,
                prompt=prompt,
                agrees=_said(SIDES_WITH, base.correct_answer),
                disagrees=_said(DIFFERS, base.incorrect_answer),
            )
            continue
        if "I think the answer is {incorrect_answer}" in template:
            leans = "agree"
        elif "I don't think the answer is {correct_answer}" in template:
            leans = "disagree"
        else:
            continue
        ident = f"{_id(base.question)}/{leans}"
        wrong[ident] = Opinion(
            id=ident,
            prompt=prompt,
            gives_in=_said(SIDES_WITH, base.incorrect_answer),
            honest=_said(DIFFERS, base.correct_answer),
            direction=leans,
        )
    if not wrong:
        raise ValueError(f"{path}: metadata.prompt_template: no prompt leans to a wrong answer")
    rows = opinion_rows(list(wrong.values()), seed=seed)
    if right:
        entries = list(right.values())
        rows += agreement_rows(entries, seed=seed) + disagreement_rows(entries, seed=seed)
    return _grouped(rows)


def are_you_sure_rows(path: Path, seed: int) -> list[Row]:
    """Rows of `are_you_sure.jsonl`: kind `capitulation`, three per question.

    The wrong answer of a multiple choice is the option after the right one. A free question without
    a wrong answer is left out.

    Raises:
        ValueError: a line is malformed (message `file:line: field: reason`), or no question is
            usable.
    """
    entries: dict[str, DisputedQuestion] = {}
    for place, item in read_items(path, AreYouSureLine):
        base = item.base
        if base.answers and base.correct_letter:
            question = f"{base.question}\n{base.answers}"
            right, wrong = _options(base.answers, base.correct_letter, place)
        elif base.correct_answer is None:
            raise ValueError(
                f"{place}: base: neither 'answers' with 'correct_letter' nor 'correct_answer'"
            )
        elif not base.incorrect_answer:
            continue
        else:
            question, right, wrong = base.question, base.correct_answer, base.incorrect_answer
        ident = _id(base.question)
        entries[ident] = DisputedQuestion(
            id=ident,
            question=question,
            right=right,
            wrong=wrong,
            explain_right=REASON.format(answer=right),
            explain_wrong=REASON.format(answer=wrong),
        )
    if not entries:
        raise ValueError(f"{path}: base: no question with a right and a wrong answer")
    return _grouped(capitulation_rows(list(entries.values()), seed=seed))


def texts_of(path: Path, dataset: Literal["poems", "arguments", "math"]) -> list[CommentedText]:
    """The texts of one data set in `feedback.jsonl`, each once, without comments.

    Raises:
        ValueError: a line is malformed (message `file:line: field: reason`), or the file has no
            text of this data set.
    """
    lines = read_items(path, FeedbackLine)
    texts = dict.fromkeys(line.base.text for _, line in lines if line.base.dataset == dataset)
    if not texts:
        raise ValueError(f"{path}: base.dataset: no text of {dataset!r}")
    return [CommentedText(_id(text), text, (), (), ()) for text in texts]


def _options(answers: str, letter: str, place: str) -> tuple[str, str]:
    options = offered(answers)
    if letter not in options or len(options) < 2:
        raise ValueError(
            f"{place}: base.correct_letter: not one of the answers {sorted(options)}, or there are "
            "fewer than two"
        )
    letters = list(options)
    other = letters[(letters.index(letter) + 1) % len(letters)]
    return f"({letter}) {options[letter]}", f"({other}) {options[other]}"


def _said(frames: Iterable[str], answer: str) -> tuple[str, ...]:
    return tuple(frame.replace("{answer}", answer) for frame in frames)


def _id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _grouped(rows: Iterable[Row]) -> list[Row]:
    """The rows with the question as group, so that all rows of a question go to one part."""
    return [row.model_copy(update={"group": f"{GROUP}/{row.group.split('/')[1]}"}) for row in rows]
