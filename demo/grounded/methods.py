"""The four ways to use a probe (`candor serve --method`), on the demo's kept answers.

    subtract    R - lambda * bound(S)
    advantage   R and bound(S) each normalised over a prompt's candidates, as a trainer does with
                what the server returns apart; bound(S) weighs kappa
    screen      R less a fine where S is above the threshold
    project     R of the reward model without the probe's direction (`demo.projected`)

The first three are arithmetic on the kept numbers: a penalty on something. Their null arm hands a
prompt's penalties out at random among its candidates. The null arms of `project` take other
directions out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from candor.jobs.compare.selection import Array, selection_weights
from candor.jobs.compare.verdict import NO_PENALTY, FallVerdict, fall_verdict, mean_interval
from candor.jobs.grounded.judged import JudgedPrompt
from candor.jobs.probe.svg import BLUE, GREEN, GREY, ORANGE, svg
from candor.jobs.rollouts.scored import ScoredGroup
from candor.methods import SCREEN_KAPPA, screen_threshold
from candor.probes.card import Card
from demo.grounded.summary import HEADS, MEASURES, cell
from demo.servers import KAPPA

N = 16
NUM_DEALS = 8
"""Times that a null arm hands a prompt's penalties out."""
COLOURS = {"subtract": BLUE, "advantage": GREEN, "screen": ORANGE, "project": "#cc79a7"}
TARGET = "agrees_with_wrong_user"
PROJECT = "project"
STRENGTHS = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Multiples of the served strength, for the figure."""

Penalised = tuple[Array, Array]
"""What a method penalises and the penalty at the served strength, [M] each."""
Choice = Mapping[str, Array]
"""Of one arm, by measure, [U, K] over questions and seeds; and `base_reward`, R of the choice for
right users."""


@dataclass(frozen=True)
class MethodArms:
    """A method beside its null arms.

    Attributes:
        real: what the method chooses.
        nulls: by name, what its null arms choose.
        verdict: whether the method lowers the agreement with wrong users more than its null arms
            and than no penalty.
        curves: the method and its first null arm at `STRENGTHS`, one seed each; empty for a method
            without a strength.
    """

    real: Choice
    nulls: Mapping[str, Choice]
    verdict: FallVerdict
    curves: Mapping[str, Sequence[Choice]]


def penalties(prompt: ScoredGroup, probe: str, card: Card) -> dict[str, Penalised]:
    """By method: what it penalises, and the penalty.

    Raises:
        ValueError: the card has no threshold to screen by.
    """
    threshold = screen_threshold(card)
    if threshold is None:
        raise ValueError("the probe's card has no threshold to screen by")
    fine = SCREEN_KAPPA * card.calibration.std_R
    screened = (prompt.scores[probe] > threshold).astype(np.float64)
    return {
        "subtract": (prompt.base_reward, prompt.penalty),
        "advantage": (normalised(prompt.base_reward), KAPPA * normalised(prompt.bounded[probe])),
        "screen": (prompt.base_reward, fine * screened),
    }


def normalised(values: Array) -> Array:
    """Less the mean, over the standard deviation; zeros where all are equal."""
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)


def measure_methods(
    prompts: Sequence[JudgedPrompt],
    probe: str,
    card: Card,
    projected: Mapping[str, Mapping[str, Sequence[float]]],
    null_probes: Mapping[str, Sequence[str]],
    *,
    seed: int = 0,
) -> tuple[Choice, dict[str, MethodArms]]:
    """The choice by R, and every method beside its null arms.

    Args:
        prompts: scored and judged; every question by a wrong and by a right user.
        projected: by prompt key and probe, R without the probe's direction; empty leaves `project`
            out.
        null_probes: names of the null probes in `projected`, by kind.
    """
    rng = np.random.default_rng(seed)
    groups = {prompt.key: prompt.group for prompt in prompts if prompt.group is not None}
    by_r = chosen(prompts, {key: one.base_reward[None] for key, one in groups.items()})
    parts = {key: penalties(one, probe, card) for key, one in groups.items()}
    found = {}
    for name in ("subtract", "advantage", "screen"):
        pairs = {key: each[name] for key, each in parts.items()}
        dealt = {key: _dealt(penalty, rng) for key, (_, penalty) in pairs.items()}
        found[name] = _arms(
            by_r,
            chosen(prompts, {key: (rewards - p)[None] for key, (rewards, p) in pairs.items()}),
            {
                "its penalties permuted": chosen(
                    prompts, {key: rewards - dealt[key] for key, (rewards, _) in pairs.items()}
                )
            },
            {
                which: [
                    chosen(prompts, {key: (r - factor * penalty[key])[None] for key, (r, _) in
                                     pairs.items()})
                    for factor in STRENGTHS
                ]
                for which, penalty in (
                    ("real", {key: p for key, (_, p) in pairs.items()}),
                    ("null", {key: each[0] for key, each in dealt.items()}),
                )
            },
        )  # fmt: skip
    if projected:
        found[PROJECT] = _arms(
            by_r,
            chosen(prompts, _projected(projected, [probe])),
            {
                f"{kind} taken out": chosen(prompts, _projected(projected, names))
                for kind, names in null_probes.items()
            },
            {},
        )
    return by_r, found


def _dealt(penalty: Array, rng: np.random.Generator) -> Array:
    """[NUM_DEALS, M]: the penalties in random orders."""
    return rng.permuted(np.tile(penalty, (NUM_DEALS, 1)), axis=1)


def _projected(
    projected: Mapping[str, Mapping[str, Sequence[float]]], names: Sequence[str]
) -> dict[str, Array]:
    """[K, M] for each prompt."""
    return {key: np.array([each[name] for name in names]) for key, each in projected.items()}


def _arms(
    by_r: Choice,
    real: Choice,
    nulls: Mapping[str, Choice],
    curves: Mapping[str, Sequence[Choice]],
) -> MethodArms:
    arms = {NO_PENALTY: by_r[TARGET], **{name: each[TARGET] for name, each in nulls.items()}}
    return MethodArms(real, nulls, fall_verdict(real[TARGET][:, 0], arms), curves)


def chosen(prompts: Sequence[JudgedPrompt], values: Mapping[str, Array]) -> Choice:
    """What best-of-16 chooses by `values`, [K, M] for each prompt key, question by question."""
    weights = {key: selection_weights(each, N) for key, each in values.items()}
    found = {
        name: np.array([
            weights[prompt.key] @ prompt.indicator(verdict)
            for prompt in prompts if prompt.stance == stance
        ])
        for name, (stance, verdict) in MEASURES.items()
    }  # fmt: skip
    found["base_reward"] = np.array(
        [
            weights[prompt.key] @ prompt.group.base_reward
            for prompt in prompts
            if prompt.stance == "right" and prompt.group is not None
        ]
    )
    return found


def markdown(by_r: Choice, methods: Mapping[str, MethodArms]) -> str:
    """Every method beside its null arms, and whether it reduces the agreement with wrong users."""
    heads = [*HEADS.values(), "null arm - method"]
    lines = [
        f"| best of {N} | " + " | ".join(heads) + " |",
        "| --- " * (len(heads) + 1) + "|",
        f"| by R | {_cells(by_r)} | |",
    ]
    for name, arms in methods.items():
        hardest = arms.verdict.hardest
        against = f"{hardest.difference:.3f} ({hardest.low:.2f} to {hardest.high:.2f})"
        lines.append(f"| `{name}` | {_cells(arms.real)} | {against}: {arms.verdict.word} |")
        lines += [f"| null: {null} | {_cells(each)} | |" for null, each in arms.nulls.items()]
    return "\n".join(lines)


def _cells(choice: Choice) -> str:
    return " | ".join(cell(mean_interval(choice[name])) for name in MEASURES)


def write_figure(path: Path, by_r: Choice, methods: Mapping[str, MethodArms]) -> None:
    """Truth told to wrong users, agreement with right users and R kept for right users, each
    against the agreement with wrong users. A line is a method at rising strengths; a grey line its
    null arm; a point a method without a strength."""
    from matplotlib.figure import Figure

    panels = {
        "truth_to_wrong_user": "tells wrong users the truth",
        "truth_to_right_user": "agrees with right users",
        "base_reward": "R of the choice, right users",
    }
    figure = Figure(figsize=(10.5, 3.2), layout="constrained")
    for axis, (measure, title) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for name, arms in methods.items():
            for which, curve in arms.curves.items():
                real = which == "real"
                axis.plot(
                    [each[TARGET].mean() for each in curve],
                    [each[measure].mean() for each in curve],
                    color=COLOURS[name] if real else GREY,
                    linewidth=1.4 if real else 0.8,
                    marker="." if real else None,
                    label=name if real else None,
                )
            if not arms.curves:
                _point(axis, arms.real, measure, COLOURS[name], name)
                for each in arms.nulls.values():
                    _point(axis, each, measure, GREY, None)
        _point(axis, by_r, measure, "black", "by R")
        axis.set_xlabel("agrees with wrong users", fontsize=9)
        axis.set_title(title, fontsize=9)
    figure.get_axes()[-1].plot([], [], color=GREY, label="null arms")
    figure.get_axes()[-1].legend(fontsize=8, frameon=False)
    path.write_text(svg(figure))


def _point(axis: Any, choice: Choice, measure: str, colour: str, label: str | None) -> None:
    axis.plot(choice[TARGET].mean(), choice[measure].mean(), "o", color=colour, label=label)
