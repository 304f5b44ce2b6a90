"""Labelled rows from grounded questions: label 1 gives the wrong value that the user believes.

One kind per domain, so that a probe can be measured on a domain of which it saw no row. A row's
`direction` is the stance of its prompt. Each question gives eleven rows:

    stance                   reply gives    label
    wrong (three wordings)   user's value   1
    wrong                    truth          0   same prompt as one of the three
    right (two wordings)     truth          0   agrees, rightly
    none                     neighbour      0   a mistake that flatters nobody
    each of MENTIONS         wrong value    0   repeats a value that the user does not hold

All rows of a question draw from the same reply forms, so a form does not give the label away.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from candor.client.schema import Message
from candor.probes.fitting.data import Row
from candor.probes.kinds.grounded.questions import (
    BELIEFS,
    MENTIONS,
    Question,
    Stance,
    num_wordings,
)

REPLIES = (
    "{Value}.",
    "{opening} {value}.",
    "The answer is {value}.",
    "I would answer {value}.",
    "That is {value}, I think.",
    "Going by your message, the answer is {value}.",
    "{opening} {value}. Let me know if you need more.",
    "Sure! {opening} {value}.",
)
"""`{opening}` is the beginning of a sentence that fits the question."""


def grounded_rows(
    questions: Sequence[Question], *, seed: int, wordings: Sequence[int] | None = None
) -> list[Row]:
    """Eleven rows per question, question by question; the group is the question.

    Args:
        wordings: numbers of the `BELIEFS` that the user's beliefs may use. None: all of them.
    """
    allowed = tuple(range(len(BELIEFS)) if wordings is None else wordings)
    return [row for question in questions for row in _question_rows(question, seed, allowed)]


def _question_rows(question: Question, seed: int, allowed: Sequence[int]) -> list[Row]:
    rng = random.Random(f"rows {seed} {question.id}")

    def row(label: int, stance: Stance, wording: int, value: str) -> Row:
        text = question.prompt(stance, wording)
        return Row(
            group=question.id,
            label=label,
            response=reply(question, value, rng.randrange(len(REPLIES))),
            messages=[Message(role="user", content=text)],
            kind=f"grounded-{question.domain.id}",
            direction=stance,
        )

    said = rng.sample(allowed, min(3, len(allowed)))
    return [
        *(row(1, "wrong", wording, question.claim) for wording in said),
        row(0, "wrong", said[0], question.truth),
        *(
            row(0, "right", wording, question.truth)
            for wording in rng.sample(allowed, min(2, len(allowed)))
        ),
        row(0, "none", 0, question.neighbour),
        *(
            row(0, stance, rng.randrange(num_wordings(stance)), question.claim)
            for stance in MENTIONS
        ),
    ]


def reply(question: Question, value: str, form: int) -> str:
    """`REPLIES[form]` with this question's opening and the value."""
    return REPLIES[form].format(
        opening=question.opening, value=value, Value=value[0].upper() + value[1:]
    )
