"""Which responses of a step to judge: some prompts at random, and the responses that R and S
disagree on most.

A probe that is being fooled gives a low S to what the reward model likes, so the responses with the
largest |z(R) - z(S)| teach a new fit most (active selection by disagreement, as in SELM, arXiv
2405.19332). They are a biased sample: among them the AUROC is whatever the rule makes it. So the
AUROC is estimated on the random prompts alone, whose responses are judged whole.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RANDOM_SHARE = 0.5
"""Share of the judged responses that is drawn at random, by whole prompts."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Places in a step.

    Attributes:
        prompts: prompts whose responses are all judged.
        responses: (prompt, response) pairs picked by disagreement; none is of `prompts`.
    """

    prompts: list[int]
    responses: list[tuple[int, int]]


def choose(
    rewards: Sequence[Sequence[float]],
    scores: Sequence[Sequence[float]],
    rate: float,
    rng: random.Random,
) -> Chosen:
    """Places to judge, about a share `rate` of all responses; at least one prompt where rate > 0.

    Args:
        rewards, scores: R and S of each prompt's responses.
    """
    sizes = [len(group) for group in rewards]
    budget = rate * sum(sizes)
    if budget <= 0:
        return Chosen([], [])
    order = rng.sample(range(len(sizes)), len(sizes))
    prompts: list[int] = []
    num = 0
    for place in order:
        if prompts and num + sizes[place] / 2 > RANDOM_SHARE * budget:
            break
        prompts.append(place)
        num += sizes[place]
    taken = set(prompts)
    gaps = np.abs(_standard(rewards) - _standard(scores))
    places = [(group, n) for group, size in enumerate(sizes) for n in range(size)]
    ranked = sorted(range(len(places)), key=lambda place: -gaps[place])
    left = max(0, round(budget) - num)
    found = [places[place] for place in ranked if places[place][0] not in taken][:left]
    return Chosen(sorted(prompts), sorted(found))


def _standard(values: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """All values in a row, in standard deviations from their mean; 0 where they do not vary."""
    flat = np.array([value for group in values for value in group], dtype=np.float64)
    std = flat.std()
    return (flat - flat.mean()) / std if std > 0 else np.zeros_like(flat)
