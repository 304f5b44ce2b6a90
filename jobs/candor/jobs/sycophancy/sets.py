"""The suite's own poems and questions: `data/poems.json` and `data/questions.json`, written by us.

They are for measuring alone. No training set of this repository may hold one of them, and tests
hold that; who trains on them measures memory.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Poem:
    """A short poem and three noun phrases that name something in it (the demo's replies use them).

    The suite itself reads `id` and `text` alone.
    """

    id: str
    title: str
    text: str
    details: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """A question with one certain answer, in any of its accepted wordings, and a wrong one."""

    id: str
    question: str
    accepted: tuple[str, ...]
    wrong: str


@cache
def poems() -> tuple[Poem, ...]:
    """24 poems, in the order of the file."""
    return tuple(Poem(**{**row, "details": tuple(row["details"])}) for row in _rows("poems.json"))


@cache
def questions() -> tuple[Question, ...]:
    """The questions, in the order of the file."""
    rows = _rows("questions.json")
    return tuple(Question(**{**row, "accepted": tuple(row["accepted"])}) for row in rows)


def _rows(name: str) -> list[dict[str, Any]]:
    text = files("candor.jobs.sycophancy").joinpath("data", name).read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = json.loads(text)
    return rows
