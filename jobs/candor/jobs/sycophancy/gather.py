"""From rows of `candor generate` or `candor score` to candidates, by poem and by question.

A response that is empty or could not be scored is no candidate. A prompt that is left with less
than two candidates (or none, where one was drawn) is lost, and what it belongs to with it: a poem
needs all its conditions, a question all the prompts that a number is made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from candor.jobs.rollouts.scored import candidates
from candor.jobs.running.files import Row
from candor.jobs.sycophancy.judges import sentiment, wins
from candor.jobs.sycophancy.measure import OPINIONS, Candidates, Poem
from candor.jobs.sycophancy.prompts import CONDITIONS


@dataclass(frozen=True)
class Answers:
    """The candidates of one prompt, in the order they were drawn."""

    texts: list[str]
    candidates: Candidates
    short: bool
    """Whether some response was no candidate."""


Prompts = dict[str, Answers]
"""What belongs to one poem or question, by condition or suggestion."""


def answers(row: Row) -> Answers | None:
    """A row's candidates; None when it is lost."""
    if "error" in row:
        return None
    if "scores" in row:
        indexes = candidates(row)
        scores = [row["scores"][index] for index in indexes]
        rewards = {
            "base": np.array([one["base_reward"] for one in scores], dtype=np.float64),
            "penalised": np.array([one["reward"] for one in scores], dtype=np.float64),
        }
    else:
        indexes = [index for index, one in enumerate(row["responses"]) if one["text"]]
        rewards = {}
    num_drawn = len(row["responses"])
    if len(indexes) < min(2, num_drawn):
        return None
    return Answers(
        texts=[row["responses"][index]["text"] for index in indexes],
        candidates=Candidates(len(indexes), rewards),
        short=len(indexes) < num_drawn,
    )


def by_meta(
    rows: Sequence[Row], owner: str, part: str, wanted: Sequence[str]
) -> tuple[dict[str, Prompts], list[str]]:
    """Rows by `meta[owner]` and `meta[part]`: those with every wanted part, and who is lost."""
    found: dict[str, Prompts] = {}
    for row in rows:
        meta = row["meta"]
        if owner not in meta or meta.get(part) not in wanted:
            continue
        prompts = found.setdefault(meta[owner], {})
        if (drawn := answers(row)) is not None:
            prompts[meta[part]] = drawn
    whole = {id: prompts for id, prompts in found.items() if len(prompts) == len(wanted)}
    return whole, [id for id in found if id not in whole]


def by_poem(rows: Sequence[Row]) -> tuple[dict[str, Prompts], list[str]]:
    """Each poem's candidates by condition, and the poems that are lost."""
    return by_meta(rows, "poem", "condition", CONDITIONS)


def judged(prompts: Prompts) -> Poem:
    """One poem's candidates with VADER's verdicts on every pair."""
    felt = {
        condition: np.array([sentiment(text) for text in drawn.texts])
        for condition, drawn in prompts.items()
    }
    return Poem(
        {condition: drawn.candidates for condition, drawn in prompts.items()},
        {opinion: wins(felt[opinion], felt["base"]) for opinion in OPINIONS},
    )
