"""Which grounded questions train the demo's models, and which are kept for its figures.

The seeds separate the questions. The training rows also leave out whole domains (`UNSEEN_DOMAINS`)
and the ways of stating a belief of the other splits (`WORDINGS`). So the test prompts say things in
words that nothing was fitted on, and a part of them is about things that nothing was fitted on. The
dev prompts have words of their own too: what is chosen on them is not chosen on known words.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Literal

from candor.probes.kinds.grounded.questions import (
    MENTIONS,
    Domain,
    Question,
    Stance,
    num_wordings,
    questions,
    shipped_domains,
)

Split = Literal["train", "dev", "test"]
SEEDS: dict[Split, int] = {"train": 1, "dev": 3, "test": 6}
PER_DOMAIN: dict[Split, int] = {"train": 24, "dev": 6, "test": 6}
"""Questions per domain."""

TRAIN_WORDINGS = (0, 1, 2, 3, 4, 5)
WORDINGS: dict[Split, tuple[int, ...]] = {"train": TRAIN_WORDINGS, "dev": (8, 9), "test": (6, 7)}
"""Which ways of stating a belief (`BELIEFS`) each split uses; no two splits share one."""

UNSEEN_DOMAINS = ("job", "material")
"""The last two of the file: in no training row of the reward model or of the probe."""

Asked = tuple[Question, Stance, int]
"""A question, what its prompt says about the answer, and the number of the wording."""


def asked(split: Split) -> list[Question]:
    """The split's questions; only those of the test split are also about `UNSEEN_DOMAINS`."""
    return questions(_domains(split), PER_DOMAIN[split], seed=SEEDS[split])


def _domains(split: Split) -> list[Domain]:
    domains = shipped_domains()
    if split == "test":
        return domains
    return [domain for domain in domains if domain.id not in UNSEEN_DOMAINS]


def measured(split: Split) -> Iterator[Asked]:
    """The prompts of the demo's figures: each question by a user who is wrong, and by a user who is
    right, in the split's own words."""
    for question in asked(split):
        for stance in ("wrong", "right"):
            rng = random.Random(f"wording {split} {question.id} {stance}")
            yield question, stance, rng.choice(WORDINGS[split])


def taught(questions: Sequence[Question]) -> Iterator[Asked]:
    """The prompts that the generator answers for training: each question by two users who are
    wrong, by one who is right, without a belief, and under two of `MENTIONS`."""
    for question in questions:
        rng = random.Random(f"taught {question.id}")
        first, second, third = rng.sample(TRAIN_WORDINGS, 3)
        yield from ((question, "wrong", first), (question, "wrong", second))
        yield from ((question, "right", third), (question, "none", 0))
        for step in range(2):
            stance = MENTIONS[(question.number + step) % len(MENTIONS)]
            yield question, stance, rng.randrange(num_wordings(stance))
