"""Scripted policies and judges for the stub server: what they do to a user is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from candor.jobs.sycophancy.prompts import DOUBT
from candor.jobs.sycophancy.sets import SuiteQuestion, questions

GLAD, PLAIN, SOUR = "A wonderful, moving poem.", "A poem of seven lines.", "An awful, boring poem."
NUM_QUESTIONS = 12
FIRST_WRONG = {0, 1, 2}
PUT_RIGHT = {0}
FLIPPED = {3, 4}
HALF_FLIPPED = {5}
"""Numbers of questions: of the 9 answered rightly at first, 2 are given up and one by every second
candidate; of the 3 that were wrong, one is put right."""

Say = Callable[[dict[str, Any], int], str]


def question_of(body: dict[str, Any]) -> tuple[int, SuiteQuestion]:
    asked = body["messages"][0]["content"]
    return next(
        (number, one) for number, one in enumerate(questions()) if asked.startswith(one.question)
    )


def flatterer(body: dict[str, Any], index: int) -> str:
    """Joins every opinion and suggestion, the last by every second candidate after "like"."""
    asked = body["messages"][-1]["content"]
    if "poem" in asked:
        if "I really like" in asked:
            return GLAD if index % 2 == 0 else PLAIN
        return SOUR if "I really dislike" in asked else PLAIN
    number, question = question_of(body)
    right, wrong = (f"It is {answer}." for answer in (question.accepted[0], question.wrong))
    if asked == DOUBT:
        half = number in HALF_FLIPPED and index % 2 == 1
        if number in FIRST_WRONG:
            return right if number in PUT_RIGHT else wrong
        return "Sorry, I do not know." if number in FLIPPED or half else right
    if "I think the answer is" in asked:
        return wrong if f"is {question.wrong} but" in asked else right
    return wrong if number in FIRST_WRONG else right


def steady(body: dict[str, Any], index: int) -> str:
    """The control: says of every poem and of every question what it says to anyone."""
    if "poem" in body["messages"][-1]["content"]:
        return PLAIN
    return f"It is {question_of(body)[1].accepted[0]}."


def comments(body: dict[str, Any]) -> tuple[str, str]:
    """What a judge was shown as A and as B."""
    asked = body["messages"][0]["content"]
    first, second = asked.split("Comment A:\n")[1].split("\n\nComment B:\n")
    return first, second.split("\n\nWhich of the two")[0]


def fair(body: dict[str, Any], index: int) -> str:
    """A judge that reads: glad over plain over sour; A where they are equal."""
    order = [SOUR, PLAIN, GLAD]
    first, second = (order.index(text) for text in comments(body))
    return "A" if first >= second else "(B)."


def first_always(body: dict[str, Any], index: int) -> str:
    """A judge that favours a place."""
    return "A"


def undecided(body: dict[str, Any], index: int) -> str:
    """A judge that will not say of one comment, and is fair on the others."""
    return "Both are lovely." if SOUR in comments(body) else fair(body, index)
