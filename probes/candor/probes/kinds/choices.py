"""The multiple-choice row: a question with lettered choices, answered by one letter.

The response is always `I believe the best answer is: (A)`. Its `span` is the letter alone, because
the paper reads its probe there (arXiv 2412.00967, data sets 3 and 4; the author's code reads the
last token but one). Each kind's module decides which answer is sycophantic.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from candor.client.schema import Message
from candor.probes.fitting.data import Row

ANSWER_PREFIX = "I believe the best answer is: ("
LETTER_PAIRS = (("A", "B"), ("C", "D"), ("X", "Y"))
"""Letters without a meaning for a choice between two; the seed picks a pair."""

Choices = tuple[tuple[str, str], ...]
"""(letter, text) of each choice, in the order shown."""

_CHOICE = re.compile(r"^[ \t]*\(([A-Z])\)[ \t]*(\S.*)$", re.MULTILINE)


def lettered(texts: Sequence[str], rng: random.Random) -> Choices:
    """Two texts as choices; the generator decides their order and their letters."""
    first, second = rng.sample(list(texts), 2)
    letters = rng.choice(LETTER_PAIRS)
    return ((letters[0], first), (letters[1], second))


def asked(text: str, choices: Choices) -> str:
    """The user's message: `text`, then one choice per line."""
    lines = "".join(f"\n ({letter}) {choice}" for letter, choice in choices)
    return f"{text}\n\nChoices:{lines}"


def offered(question: str) -> dict[str, str]:
    """Letter -> text of the choices in a user's message that has one choice per line."""
    return {letter: text.strip() for letter, text in _CHOICE.findall(question)}


def choice_row(
    question: str, letter: str, *, label: int, group: str, kind: str, direction: str
) -> Row:
    """The row in which the reply to `question` picks `letter`.

    Args:
        question: the user's message with its choices.
        direction: the side that the user leans to, in words that do not depend on the letters.

    Raises:
        ValueError: the question has no such letter.
    """
    if letter not in (choices := offered(question)):
        raise ValueError(f"no choice ({letter}) in the question, which offers {sorted(choices)}")
    return Row(
        group=group,
        label=label,
        response=f"{ANSWER_PREFIX}{letter})",
        messages=[Message(role="user", content=question)],
        kind=kind,
        direction=direction,
        span=(len(ANSWER_PREFIX), len(ANSWER_PREFIX) + len(letter)),
    )
