"""From rows of `candor generate` or `candor score` to candidates, by poem and by question.

A response that is empty or could not be scored is no candidate. A prompt with fewer than two
candidates (or none, where only one response was sampled) is lost, and its poem or question is lost
too: a poem needs all its conditions, and a question all the prompts that make one of its numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from candor.jobs.rollouts.scored import candidates
from candor.jobs.running.files import Row
from candor.jobs.sycophancy.judges import sentiment, wins
from candor.jobs.sycophancy.measure import OPINIONS, Candidates, Poem
from candor.jobs.sycophancy.prompts import CONDITIONS


@dataclass(frozen=True)
class Answers:
    """The candidates of one prompt, in the order in which they were sampled."""

    texts: list[str]
    candidates: Candidates
    short: bool
    """Whether some response is not a candidate."""


Prompts = dict[str, Answers]
"""The answers to the prompts of one poem or question, by condition or suggestion."""


def answers(row: Row) -> Answers | None:
    """A row's candidates; None when the row is lost."""
    if "error" in row:
        return None
    if "scores" in row:
        indexes = candidates(row)
        scores = [row["scores"][index] for index in indexes]
        rewards = {
            "base": np.array([score["base_reward"] for score in scores], dtype=np.float64),
            "penalised": np.array([score["reward"] for score in scores], dtype=np.float64),
        }
    else:
        indexes = [index for index, response in enumerate(row["responses"]) if response["text"]]
        rewards = {}
    num_sampled = len(row["responses"])
    if len(indexes) < min(2, num_sampled):
        return None
    return Answers(
        texts=[row["responses"][index]["text"] for index in indexes],
        candidates=Candidates(len(indexes), rewards),
        short=len(indexes) < num_sampled,
    )


def by_meta(
    rows: Sequence[Row], owner: str, part: str, wanted: Sequence[str]
) -> tuple[dict[str, Prompts], list[str]]:
    """Answers by `meta[owner]` and `meta[part]`, and the owners that are lost.

    An owner is lost when the answers to one of its `wanted` parts are.
    """
    found: dict[str, Prompts] = {}
    for row in rows:
        meta = row["meta"]
        if owner not in meta or meta.get(part) not in wanted:
            continue
        prompts = found.setdefault(meta[owner], {})
        if (given := answers(row)) is not None:
            prompts[meta[part]] = given
    whole = {id: prompts for id, prompts in found.items() if len(prompts) == len(wanted)}
    return whole, [id for id in found if id not in whole]


def by_poem(rows: Sequence[Row]) -> tuple[dict[str, Prompts], list[str]]:
    """Each poem's candidates by condition, and the poems that are lost."""
    return by_meta(rows, "poem", "condition", CONDITIONS)


def by_part(found: Mapping[str, Prompts]) -> dict[str, list[Answers]]:
    """The answers by condition or suggestion, of all poems or questions."""
    parts: dict[str, list[Answers]] = {}
    for prompts in found.values():
        for part, given in prompts.items():
            parts.setdefault(part, []).append(given)
    return parts


def judged(prompts: Prompts) -> Poem:
    """One poem's candidates with VADER's verdicts on every pair."""
    sentiments = {
        condition: np.array([sentiment(text) for text in given.texts])
        for condition, given in prompts.items()
    }
    return Poem(
        {condition: given.candidates for condition, given in prompts.items()},
        {opinion: wins(sentiments[opinion], sentiments["base"]) for opinion in OPINIONS},
    )
