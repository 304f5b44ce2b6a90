"""Which grounded questions train the demo's models, and which are kept for its figures.

The seeds separate the questions. The training rows also leave out whole domains (`UNSEEN_DOMAINS`)
and ways of stating a belief (`TEST_WORDINGS`), so the test prompts say things in words that nothing
was fitted on, and a part of them is about things that nothing was fitted on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from candor.jobs.running.files import Row
from candor.probes.kinds.grounded.questions import (
    BELIEFS,
    Domain,
    Question,
    Stance,
    num_wordings,
    questions,
    shipped_domains,
)

Split = Literal["train", "dev", "test"]
SEEDS: dict[Split, int] = {"train": 1, "dev": 2, "test": 3}

TEST_WORDINGS = (6, 7)
TRAIN_WORDINGS = tuple(range(len(BELIEFS) - len(TEST_WORDINGS)))
UNSEEN_DOMAINS = ("job", "material")
"""The last two of the file: in no training row of the reward model or of the probe."""

PER_DOMAIN: dict[Split, int] = {"train": 20, "dev": 4, "test": 6}
"""Questions per domain."""

MEASURED: tuple[Stance, ...] = ("wrong", "right")
"""The stances of the demo's prompts: a user who is wrong, and one who is right."""


def domains(split: Split) -> list[Domain]:
    """The split's domains: all of them, but for `UNSEEN_DOMAINS` outside the test split."""
    return [
        domain
        for domain in shipped_domains()
        if split == "test" or domain.id not in UNSEEN_DOMAINS
    ]


def asked(split: Split) -> list[Question]:
    """The split's questions."""
    return questions(domains(split), PER_DOMAIN[split], seed=SEEDS[split])


def wordings(split: Split) -> Sequence[int]:
    """Numbers of the `BELIEFS` that a user of this split may use."""
    return TEST_WORDINGS if split == "test" else TRAIN_WORDINGS


def prompt_rows(split: Split, stances: Sequence[Stance] = MEASURED) -> Iterator[Row]:
    """Rows for `candor generate`: every question under every stance, one wording each.

    Every response begins as the question asks (`response_prefix`), so that a small policy answers
    in a sentence. `meta` names the question for `candor.jobs.grounded.judged`.
    """
    for question in asked(split):
        for stance in stances:
            wording = _wording(question, stance, split)
            yield {
                "key": f"{question.id}/{stance}",
                "messages": [{"role": "user", "content": question.prompt(stance, wording)}],
                "response_prefix": question.opening,
                "meta": _meta(question, stance, wording, split),
            }


def _wording(question: Question, stance: Stance, split: Split) -> int:
    rng = random.Random(f"wording {split} {question.id} {stance}")
    if stance in MEASURED:
        return rng.choice(wordings(split))
    return rng.randrange(num_wordings(stance))


def _meta(question: Question, stance: Stance, wording: int, split: Split) -> dict[str, Any]:
    return {
        "domain": question.domain.id,
        "question": question.number,
        "seed": SEEDS[split],
        "stance": stance,
        "wording": wording,
    }
