"""What best-of-N chooses among answers to grounded questions, by every rule and null arm.

An *arm* is a way to choose: at random, by R, by R minus the penalty, and by R minus a penalty that
knows nothing (`candor.jobs.compare.nulls`). The unit of every interval is the question: each is
asked once by a user who is wrong and once by a user who is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from candor.jobs.compare.selection import Array
from candor.jobs.compare.verdict import NO_PENALTY, FallVerdict, fall_verdict, mean_interval
from candor.jobs.compare.words import WordList
from candor.jobs.grounded.judged import JudgedPrompt
from candor.jobs.rollouts.best_of_n.arms import REAL, NullSources, arm_weights
from candor.jobs.rollouts.scored import ScoredGroup
from candor.probes.kinds.grounded.judge import Verdict
from candor.probes.kinds.grounded.questions import Stance
from demo.grounded.asked import UNSEEN_DOMAINS

RANDOM = "random"
NS = (1, 2, 4, 8, 16)

MEASURES: dict[str, tuple[Stance, Verdict]] = {
    "agrees_with_wrong_user": ("wrong", "user"),
    "truth_to_wrong_user": ("wrong", "truth"),
    "truth_to_right_user": ("right", "truth"),
}
"""Measure -> (the users that it is about, the verdict that it counts)."""


@dataclass(frozen=True)
class ChoiceArm:
    """One way to choose; `shares` has, per measure, [U, K, N]: how likely the choice for each of U
    questions has the verdict, under K seeds of the arm, at each N of `NS`."""

    name: str
    shares: Mapping[str, Array]

    def at(self, measure: str, column: int = -1) -> tuple[float, float, float]:
        """Mean and 95 % t interval over questions (and seeds) at one N."""
        return mean_interval(self.shares[measure][:, :, column])


@dataclass(frozen=True)
class Measured:
    """The arms, in the order of the tables: random, by R, penalised, then the null arms."""

    arms: tuple[ChoiceArm, ...]
    left_out: tuple[str, ...]
    """Null arms that could not be made as strong as the penalty."""
    verdict: FallVerdict
    """Whether the penalty lowers the agreement with wrong users more than every null arm."""
    unseen: Array
    """[U] bool: questions of a domain that is in no training row."""
    num_candidates: int

    def arm(self, name: str) -> ChoiceArm:
        """The arm of this name."""
        return next(arm for arm in self.arms if arm.name == name)


def measure(
    prompts: Sequence[JudgedPrompt],
    null_probes: Mapping[str, Sequence[str]],
    words: WordList | None,
    *,
    seed: int = 0,
) -> Measured:
    """Best-of-N on these prompts, exact over all subsets of the candidates.

    Args:
        prompts: scored and judged; every question under both stances of `MEASURES`.
        null_probes: names of the served null probes, by kind.
        words: the word list of the probe's training rows.

    Raises:
        ValueError: a question lacks one of its prompts.
    """
    questions = list(dict.fromkeys(prompt.question.id for prompt in prompts))
    by_key = {(prompt.question.id, prompt.stance): prompt for prompt in prompts}
    ordered = {
        stance: [by_key[question, stance] for question in questions]
        for stance in ("wrong", "right")
        if all((question, stance) in by_key for question in questions)
    }
    if len(ordered) < 2:
        raise ValueError("a question lacks the prompt of a wrong or of a right user")
    flat = [*ordered["wrong"], *ordered["right"]]
    sources = NullSources([prompt.texts for prompt in flat], null_probes, words, seed)
    groups = [_scored(prompt) for prompt in flat]
    columns: dict[str, list[list[Array]]] = {}
    left_out: set[str] = set()
    for n in NS:
        weights, missing = arm_weights(groups, n, sources)
        left_out |= set(missing)
        weights[RANDOM] = [np.full((1, len(each.texts)), 1 / len(each.texts)) for each in flat]
        for name, found in weights.items():
            columns.setdefault(name, []).append(found)
    names = [RANDOM, NO_PENALTY, REAL]
    names += [name for name in columns if name not in names]
    arms = tuple(ChoiceArm(name, _shares(flat, columns[name], len(questions))) for name in names)
    real, *_ = (arm for arm in arms if arm.name == REAL)
    target = "agrees_with_wrong_user"
    return Measured(
        arms,
        tuple(sorted(left_out)),
        fall_verdict(
            real.shares[target][:, 0, -1],
            {
                arm.name: arm.shares[target][:, :, -1]
                for arm in arms
                if arm.name not in (RANDOM, REAL)
            },
        ),
        np.array([prompt.question.domain.id in UNSEEN_DOMAINS for prompt in ordered["wrong"]]),
        sum(len(prompt.texts) for prompt in flat),
    )


def _scored(prompt: JudgedPrompt) -> ScoredGroup:
    if prompt.group is None:
        raise ValueError(f"key {prompt.key!r} has no scores")
    return prompt.group


def _shares(
    flat: Sequence[JudgedPrompt], by_n: Sequence[Sequence[Array]], num_questions: int
) -> dict[str, Array]:
    """Per measure [U, K, N] of one arm. `flat` has the prompts of wrong users, then of right."""
    found = {}
    for name, (stance, verdict) in MEASURES.items():
        places = range(num_questions)
        if stance == "right":
            places = range(num_questions, 2 * num_questions)
        found[name] = np.array(
            [
                np.stack([weights[place] @ flat[place].indicator(verdict) for weights in by_n], -1)
                for place in places
            ]
        )
    return found


def as_json(measured: Measured, page: Path) -> dict[str, Any]:
    """The demo's last line: every arm at the largest N, as mean, low and high over questions."""

    def figure(arm: ChoiceArm, name: str) -> dict[str, float]:
        mean, low, high = arm.at(name)
        return {"mean": round(mean, 4), "low": round(low, 4), "high": round(high, 4)}

    return {
        "n": NS[-1],
        "questions": len(measured.unseen),
        "candidates": measured.num_candidates,
        **{name: {arm.name: figure(arm, name) for arm in measured.arms} for name in MEASURES},
        "penalty": measured.verdict.as_json(),
        "report": str(page),
    }


def table(measured: Measured) -> str:
    """The same figures as a table for the terminal."""
    heads = ("agrees, user wrong", "truth, user wrong", "truth, user right")
    lines = [f"{f'best of {NS[-1]}':<34}" + "".join(f"{head:>24}" for head in heads)]
    for arm in measured.arms:
        cells = (arm.at(name) for name in MEASURES)
        lines.append(
            f"{LABELS.get(arm.name, arm.name):<34}"
            + "".join(f"{m:.3f} ({low:5.2f} to {high:.2f})".rjust(24) for m, low, high in cells)
        )
    return "\n".join([*lines, verdict(measured)])


def verdict(measured: Measured) -> str:
    """Whether the penalty does more than every null arm, as a sentence."""
    hardest = measured.verdict.hardest
    return (
        f"The penalty {measured.verdict.word} the agreement with wrong users: the hardest null arm "
        f"({LABELS.get(hardest.arm, hardest.arm)}) agrees {hardest.difference:.3f} "
        f"({hardest.low:.2f} to {hardest.high:.2f}) more often."
    )


def markdown(measured: Measured) -> str:
    """Every arm at the largest N: the measures with intervals, and the first of them in the domains
    that no training row is about."""
    heads = [*HEADS.values(), f"{HEADS['agrees_with_wrong_user']}, unseen domains"]
    lines = [
        f"| best of {NS[-1]} | " + " | ".join(heads) + " |",
        "| --- " * (len(heads) + 1) + "|",
    ]
    for arm in measured.arms:
        cells = [cell(arm.at(name)) for name in MEASURES]
        unseen = arm.shares["agrees_with_wrong_user"][measured.unseen, :, -1]
        cells.append(f"{unseen.mean():.3f}" if unseen.size else "-")
        lines.append(f"| {LABELS.get(arm.name, arm.name)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def markdown_along(measured: Measured) -> str:
    """Agreement with wrong users at every N, by every arm."""
    lines = ["| N | " + " | ".join(str(n) for n in NS) + " |", "| --- " * (len(NS) + 1) + "|"]
    for arm in measured.arms:
        cells = [f"{arm.at('agrees_with_wrong_user', column)[0]:.3f}" for column in range(len(NS))]
        lines.append(f"| {LABELS.get(arm.name, arm.name)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(figure: tuple[float, float, float]) -> str:
    """Mean and interval, as in `0.075 (0.03 to 0.12)`."""
    mean, low, high = figure
    return f"{mean:.3f} ({low:z.2f} to {high:z.2f})"


HEADS = {
    "agrees_with_wrong_user": "agrees with a wrong user",
    "truth_to_wrong_user": "tells a wrong user the truth",
    "truth_to_right_user": "agrees with a right user",
}


LABELS = {
    RANDOM: "a random answer",
    NO_PENALTY: "by R",
    REAL: "by the penalised reward",
    "permuted penalty": "null: penalties permuted",
    "length": "null: length",
    "words": "null: words of the answer",
    "random-direction": "null: random directions",
    "shuffled-labels": "null: probes on shuffled labels",
}
