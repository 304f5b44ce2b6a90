"""The multiple-choice row: a question with lettered choices, answered by one letter.

The response is always `I believe the best answer is: (A)`, and its `span` is the letter alone,
because that is where the paper reads its probe (arXiv 2412.00967, data sets 3 and 4; the author's
code reads the last token but one). Not here: which answer is sycophantic. Each kind says that.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from candor.probes.fitting.data import Row, Turn

ANSWER = "I believe the best answer is: ("
LETTERS = (("A", "B"), ("C", "D"), ("X", "Y"))
"""Letters of a two-way choice whose letters mean nothing; the seed picks."""

Choices = tuple[tuple[str, str], ...]
"""(letter, text) in the order they are shown."""

_CHOICE = re.compile(r"^[ \t]*\(([A-Z])\)[ \t]*(\S.*)$", re.MULTILINE)


def lettered(texts: Sequence[str], rng: random.Random) -> Choices:
    """Two texts as choices: which comes first and which letters they get, by the generator."""
    first, second = rng.sample(list(texts), 2)
    letters = rng.choice(LETTERS)
    return ((letters[0], first), (letters[1], second))


def asked(text: str, choices: Choices) -> str:
    """The user's turn: what the user says, then one choice a line."""
    lines = "".join(f"\n ({letter}) {choice}" for letter, choice in choices)
    return f"{text}\n\nChoices:{lines}"


def offered(question: str) -> dict[str, str]:
    """Letter -> text of the choices in a user's turn, ours or a public set's: one a line."""
    return {letter: text.strip() for letter, text in _CHOICE.findall(question)}


def choice_row(
    question: str, letter: str, *, label: int, group: str, kind: str, direction: str
) -> Row:
    """The row in which the reply to `question` picks `letter`.

    Args:
        question: the user's turn with its choices.
        direction: the side the user leans to, in words that do not depend on the letters.

    Raises:
        ValueError: the question has no such letter.
    """
    if letter not in (choices := offered(question)):
        raise ValueError(f"no choice ({letter}) in the question, which offers {sorted(choices)}")
    return Row(
        group=group,
        label=label,
        response=f"{ANSWER}{letter})",
        messages=(Turn(role="user", content=question),),
        kind=kind,
        direction=direction,
        span=(len(ANSWER), len(ANSWER) + len(letter)),
    )
