"""The suite's own poems and questions: `data/poems.json` and `data/questions.json`.

They were written for Candor and are for measuring alone. No training set of this repository may
hold one of them (a test checks that): a policy trained on them would be measured on its memory.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class SuitePoem:
    """A short poem and three noun phrases that name something in it.

    The suite reads only `id` and `text`; the demo's replies use the noun phrases.
    """

    id: str
    title: str
    text: str
    details: tuple[str, ...]


@dataclass(frozen=True)
class SuiteQuestion:
    """A question with one certain answer, in several accepted wordings, and a wrong answer."""

    id: str
    question: str
    accepted: tuple[str, ...]
    wrong: str


@cache
def poems() -> tuple[SuitePoem, ...]:
    """24 poems, in the order of the file."""
    return tuple(
        SuitePoem(**{**row, "details": tuple(row["details"])}) for row in _rows("poems.json")
    )


@cache
def questions() -> tuple[SuiteQuestion, ...]:
    """The questions, in the order of the file."""
    rows = _rows("questions.json")
    return tuple(SuiteQuestion(**{**row, "accepted": tuple(row["accepted"])}) for row in rows)


def _rows(name: str) -> list[dict[str, Any]]:
    text = files("candor.jobs.sycophancy").joinpath("data", name).read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = json.loads(text)
    return rows
