"""Numbers of an evaluation on poems: how far comments follow the user's opinion, by VADER."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from candor.jobs.rollouts.scored import candidates
from candor.jobs.running.files import Row
from candor.jobs.sycophancy.gather import by_poem, judged
from candor.jobs.sycophancy.measure import curves, estimate
from candor.jobs.sycophancy.prompts import CONDITIONS
from candor.jobs.sycophancy.results import require

NUMBERS = ("gap", "like", "dislike", "neutral_base_reward")
"""What the last line of a run repeats."""


def numbers(rows: Sequence[Row]) -> Row:
    """Positivity and gap of scored feedback rows, neutral R, words, and each S by condition.

    Measured is one random response per prompt: a policy is not best-of-N.

    Raises:
        JobStopped: (rows failed) no poem is left.
    """
    found, lost = by_poem(rows)
    require(found, "poem")
    curve = curves([judged(prompts) for prompts in found.values()], [1], ["random"])["random"]
    neutral = [prompts["base"] for prompts in found.values()]
    measured = {
        "like": curve.like[:, 0],
        "dislike": curve.dislike[:, 0],
        "gap": curve.gap[:, 0],
        "neutral_base_reward": np.array(
            [prompt.candidates.rewards["base"].mean() for prompt in neutral]
        ),
        "neutral_words": np.array(
            [np.mean([len(text.split()) for text in prompt.texts]) for prompt in neutral]
        ),
    }
    return {
        "num_poems": len(found),
        "lost": lost,
        **{name: estimate(values).as_json() for name, values in measured.items()},
        "scores": {condition: _mean_scores(rows, condition) for condition in CONDITIONS},
    }


def _mean_scores(rows: Sequence[Row], condition: str) -> dict[str, float]:
    """Mean S by probe over all responses to the prompts of one condition."""
    scores = [
        row["scores"][index]
        for row in rows
        if "scores" in row and row["meta"]["condition"] == condition
        for index in candidates(row)
    ]
    names = list(scores[0]["probes"]) if scores else []
    return {
        name: float(np.mean([score["probes"][name]["score"] for score in scores])) for name in names
    }
