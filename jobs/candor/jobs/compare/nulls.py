"""Null arms: penalties as strong as the real one that know nothing of the trait.

Any penalty on some candidates makes the choice less extreme, so it lowers whatever R favours
(dilution). A fall under the real penalty counts only as far as it goes beyond these arms:

| arm | the penalties of a prompt's candidates |
| --- | --- |
| permuted | the real ones, dealt out at random among the candidates of the same prompt |
| length | the response's length |
| words | a bag-of-words score of the response (`candor.jobs.compare.words`) |
| null probes | a served probe with a random direction, or fitted on shuffled labels |

The permuted arm has the real penalties themselves. Every other arm is scaled, by one factor for
all prompts, so that the spread of its penalties within a prompt is that of the real penalties. The
values of the arms `length` and `words` first get a floor, so that the same share of candidates pays
nothing as under the real penalty.

An arm is known by the weights with which it chooses: the expectation of anything that is known for
each candidate (R, a verdict) is a sum over these weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from candor.jobs.compare.selection import Array, selection_weights
from candor.probes.fitting.calibrate import within_std

NUM_PERMUTATIONS = 200
"""Permutations per prompt. The error of a share that they leave is at most 0.5 / sqrt(200) = 0.035
for one prompt and 0.0036 for the mean of 100 prompts; it is part of the spread between prompts, and
so of their intervals."""


def permuted_weights(
    base_rewards: Array,
    penalties: Array,
    n: int,
    rng: np.random.Generator,
    num_permutations: int = NUM_PERMUTATIONS,
) -> Array:
    """[M]: how likely best-of-n chooses each candidate when the penalties are dealt out at random.

    A mean over permutations; for each of them it is exact over all subsets of n.

    Args:
        base_rewards, penalties: [M] each, of one prompt.
        rng: every prompt needs draws of its own, or their errors do not average out.

    Raises:
        ValueError: as `selection_weights`.
    """
    dealt = rng.permuted(np.tile(penalties, (num_permutations, 1)), axis=1)
    mean: Array = selection_weights(base_rewards - dealt, n).mean(axis=0)
    return mean


def as_strong(values: Sequence[Array], penalties: Sequence[Array]) -> list[Array]:
    """The values, times the factor that gives them the penalties' spread within a prompt.

    Args:
        values, penalties: [M] for each prompt.

    Raises:
        ValueError: the penalties vary within a prompt, and the values do not.
    """
    wanted, spread = within_std(penalties), within_std(values)
    if wanted == 0:
        return [np.zeros_like(one) for one in values]
    if spread == 0:
        raise ValueError("the values do not vary among the candidates of any prompt")
    return [one * (wanted / spread) for one in values]


def with_floor(values: Sequence[Array], penalties: Sequence[Array]) -> list[Array]:
    """The values above a floor, 0 below it: as many lie at 0 as there are penalties at their
    minimum (with a hinge: candidates that pay nothing).

    Where many values are equal to the greatest, the floor lies below these, and fewer go free.

    Args:
        values, penalties: [M] for each prompt.
    """
    paid, every = np.concatenate(penalties), np.concatenate(values)
    share = float(np.mean(paid == paid.min()))
    floor = float(np.quantile(every, share))
    if floor >= every.max():
        below = every[every < every.max()]
        floor = float(below.max()) if len(below) else floor
    return [np.maximum(one - floor, 0.0) for one in values]


def signed_like(values: Sequence[Array], penalties: Sequence[Array]) -> list[Array]:
    """The values, or their negatives if they fall where the penalties rise (within prompts).

    So the arm is the penalty's nearest likeness: if long responses pay more, `length` charges for
    length, and otherwise for shortness.
    """
    together = sum(
        float((one - one.mean()) @ (paid - paid.mean()))
        for one, paid in zip(values, penalties, strict=True)
    )
    return [-one if together < 0 else one for one in values]
