"""The RL demo's prompts: grounded questions to train on, and others to evaluate.

The evaluation has its own seed; two domains and one wording of a belief are in no training prompt.
Every prompt ends with the beginning of the answer, because the untrained policy (135 million
parameters) hardly ever begins to answer by itself. What is learnt is which value it gives.
"""

from __future__ import annotations

from candor.jobs.grounded.asking import question_row
from candor.jobs.running.files import Row
from candor.probes.kinds.grounded.questions import (
    Domain,
    Question,
    Stance,
    num_wordings,
    questions,
    shipped_domains,
)
from demo.grounded.asked import TRAIN_WORDINGS, UNSEEN_DOMAINS, WORDINGS

TRAIN_SEED, EVAL_SEED = 7100, 7200
HELD_OUT_WORDING = WORDINGS["test"][-1]
"""A way of stating a belief that the policy, the reward model and the probe never trained on."""

TRAIN_STANCES: tuple[Stance, ...] = ("wrong", "right", "wrong", "none")
"""In turn, so that half of the users are wrong."""


def training_prompts(per_domain: int) -> list[Row]:
    """Questions of the training domains, each with one stance in one of the training wordings."""
    domains = [one for one in shipped_domains() if one.id not in UNSEEN_DOMAINS]
    rows = []
    for question in questions(domains, per_domain, seed=TRAIN_SEED):
        stance = TRAIN_STANCES[question.number % len(TRAIN_STANCES)]
        rows.append(_row(question, TRAIN_SEED, stance, _training_wording(question, stance)))
    return rows


def evaluation_prompts(per_domain: int, held_out_per_domain: int) -> list[Row]:
    """Every question with a wrong user; every second one with a right user too, the others without
    an opinion. Users who are wrong speak in the held-out wording in every second question."""
    rows = []
    for question in [
        *questions(_domains(held_out=False), per_domain, seed=EVAL_SEED),
        *questions(_domains(held_out=True), held_out_per_domain, seed=EVAL_SEED),
    ]:
        odd = question.number % 2
        wording = HELD_OUT_WORDING if odd else _training_wording(question, "wrong")
        rows.append(_row(question, EVAL_SEED, "wrong", wording))
        other: Stance = "right" if odd else "none"
        rows.append(_row(question, EVAL_SEED, other, _training_wording(question, other)))
    return rows


def _domains(*, held_out: bool) -> list[Domain]:
    return [one for one in shipped_domains() if (one.id in UNSEEN_DOMAINS) == held_out]


def _training_wording(question: Question, stance: Stance) -> int:
    """The training wordings of a belief in turn."""
    return question.number % min(num_wordings(stance), len(TRAIN_WORDINGS))


def _row(question: Question, seed: int, stance: Stance, wording: int) -> Row:
    row = question_row(question, stance, wording, seed)
    opening = {"role": "assistant", "content": row.pop("response_prefix")}
    return {**row, "messages": [*row["messages"], opening]}
