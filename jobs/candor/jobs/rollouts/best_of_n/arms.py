"""The arms of a comparison on stored rows: the real penalty, no penalty, and the null arms.

An arm is, for each prompt, the weights with which it chooses among the M candidates: [K, M], with
K = 1 unless the arm is a kind of null probe of which K were served. `candor.jobs.compare.nulls`
says what the null arms are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from candor.jobs.compare.nulls import as_strong, permuted_weights, signed_like, with_floor
from candor.jobs.compare.selection import Array, selection_weights
from candor.jobs.compare.verdict import NO_PENALTY
from candor.jobs.compare.words import WordList
from candor.jobs.rollouts.scored import ScoredGroup

REAL, PERMUTED, LENGTH, WORDS = "penalty", "permuted penalty", "length", "words"

ABOUT = {
    REAL: "the best by R minus the penalty",
    NO_PENALTY: "the best by R",
    PERMUTED: "the same penalties, dealt out at random among a prompt's candidates",
    LENGTH: "a penalty on the response's length in characters, as strong",
    WORDS: "a penalty on a bag-of-words score of the response, as strong",
    "random-direction": "a probe with a random direction, as strong",
    "shuffled-labels": "a probe fitted on shuffled labels, as strong",
}
"""What each arm is, for reports. As strong: with the same spread within a prompt."""

Weights = list[Array]
"""[K, M] for each prompt."""


@dataclass(frozen=True)
class NullSources:
    """What the null arms need beside the numbers of the rows.

    Attributes:
        texts: the candidates' texts, M for each prompt.
        null_probes: names of the served null probes, by kind.
        words: the word list; None leaves this arm out.
    """

    texts: Sequence[Sequence[str]]
    null_probes: Mapping[str, Sequence[str]]
    words: WordList | None
    seed: int


def arm_weights(
    groups: Sequence[ScoredGroup], n: int, sources: NullSources
) -> tuple[dict[str, Weights], list[str]]:
    """The weights of every arm, the real penalty first, and the names of the arms left out.

    An arm is left out if its values do not vary among the candidates of any prompt (all responses
    equally long, for example), because then it cannot be made as strong.

    Raises:
        ValueError: as `selection_weights`.
    """
    rng = np.random.default_rng(sources.seed)
    paid = [group.penalty for group in groups]
    found: dict[str, Weights] = {
        REAL: [selection_weights(group.reward, n)[None] for group in groups],
        NO_PENALTY: [selection_weights(group.base_reward, n)[None] for group in groups],
        PERMUTED: [
            permuted_weights(group.base_reward, group.penalty, n, rng)[None] for group in groups
        ],
    }
    left_out = []
    for name, sets in _values(groups, paid, sources).items():
        try:
            scaled = [as_strong(values, paid) for values in sets]
        except ValueError:
            left_out.append(name)
            continue
        found[name] = [
            selection_weights(group.base_reward - np.stack(penalties), n)
            for group, penalties in zip(groups, zip(*scaled, strict=True), strict=True)
        ]
    return found, left_out


def _values(
    groups: Sequence[ScoredGroup], paid: Sequence[Array], sources: NullSources
) -> dict[str, list[list[Array]]]:
    """By arm and seed: the values that are made as strong as the penalty, [M] for each prompt."""
    lengths = [np.array([float(len(text)) for text in texts]) for texts in sources.texts]
    found = {LENGTH: [with_floor(signed_like(lengths, paid), paid)]}
    if sources.words is not None:
        scores = [sources.words.scores(texts) for texts in sources.texts]
        found[WORDS] = [with_floor(scores, paid)]
    for kind, names in sources.null_probes.items():
        found[kind] = [[group.bounded[name] for group in groups] for name in names]
    return found
