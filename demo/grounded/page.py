"""The page of `make demo`: what best-of-N chooses among answers to grounded questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from candor.jobs.compare.verdict import NO_PENALTY
from candor.jobs.grounded.judged import JudgedPrompt
from candor.jobs.probe.svg import BLUE, GREY, ORANGE, svg
from candor.jobs.rollouts.arms import REAL
from demo.grounded.summary import HEADS, LABELS, MEASURES, NS, RANDOM, Measured
from demo.page import render

DRAWN = {RANDOM: GREY, NO_PENALTY: ORANGE, REAL: BLUE}
"""Colours of the arms that are not null arms; these are thin and grey."""

MOST_CHOICES = 6


@dataclass(frozen=True)
class Contrast:
    """The answers that R and the penalised reward choose among all that were drawn."""

    prompt: str
    answers: tuple[str, str]
    numbers: tuple[str, str]


def write_page(
    out: Path,
    measured: Measured,
    prompts: Sequence[JudgedPrompt],
    model: Mapping[str, str],
    provenance: Mapping[str, str],
) -> None:
    """Write the page.

    Args:
        model: `id` and `formula` as the reward server states them.
        provenance: rows of the last table.
    """
    render(
        Path(__file__).with_name("page.html.j2"),
        out,
        n=NS[-1],
        questions=len(measured.unseen),
        unseen=int(measured.unseen.sum()),
        candidates=measured.num_candidates,
        per_prompt=len(prompts[0].texts),
        model=model["id"],
        formula=model["formula"],
        heads=HEADS,
        rows=_rows(measured),
        headline={
            name: _cell(measured.arm(arm).at("agrees_with_wrong_user"))
            for name, arm in (("random", RANDOM), ("by_r", NO_PENALTY), ("penalised", REAL))
        },
        verdict=measured.verdict,
        hardest=LABELS.get(measured.verdict.hardest.arm, measured.verdict.hardest.arm),
        left_out=[LABELS.get(name, name) for name in measured.left_out],
        plot=plot(measured),
        choices=choices(prompts),
        provenance=provenance,
    )


def _cell(figure: tuple[float, float, float]) -> dict[str, float]:
    mean, low, high = figure
    return {"value": mean, "low": max(low, 0.0), "high": min(high, 1.0)}


def _rows(measured: Measured) -> list[dict[str, Any]]:
    return [
        {
            "label": LABELS.get(arm.name, arm.name),
            "cells": [_cell(arm.at(measure)) for measure in MEASURES],
            "unseen": float(arm.shares["agrees_with_wrong_user"][measured.unseen, :, -1].mean())
            if measured.unseen.any()
            else None,
        }
        for arm in measured.arms
    ]


def plot(measured: Measured) -> Markup:
    """The three measures along N, side by side on one scale; a line per arm."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.2))
    axes = figure.subplots(1, len(MEASURES), sharey=True)
    for axis, measure in zip(axes, MEASURES, strict=True):
        for arm in measured.arms:
            mean = [arm.at(measure, column)[0] for column in range(len(NS))]
            drawn = arm.name in DRAWN
            axis.plot(
                NS,
                mean,
                color=DRAWN.get(arm.name, GREY),
                label=LABELS[arm.name] if drawn else "null arms",
                linewidth=1.8 if drawn else 0.8,
                linestyle="-" if drawn else ":",
            )
            if drawn:
                ends = np.array([arm.at(measure, column)[1:] for column in range(len(NS))])
                axis.fill_between(
                    NS, ends[:, 0], ends[:, 1], color=DRAWN[arm.name], alpha=0.12, linewidth=0
                )
        axis.set_xscale("log", base=2)
        axis.set_xticks(NS, [str(n) for n in NS])
        axis.minorticks_off()
        axis.set_title(HEADS[measure], fontsize=9)
        axis.set_xlabel("N")
        axis.set_ylim(0, 1)
    lines = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    axes[0].legend(lines.values(), lines.keys(), frameon=False, fontsize=8)
    return svg(figure)


def choices(prompts: Sequence[JudgedPrompt]) -> list[Contrast]:
    """The first prompts of wrong users for which R chooses the user's value and the penalised
    reward does not."""
    found = []
    for prompt in prompts:
        group = prompt.group
        if group is None or prompt.stance != "wrong":
            continue
        picks = [int(np.argmax(values)) for values in (group.base_reward, group.reward)]
        if [prompt.verdicts[pick] == "user" for pick in picks] == [True, False]:
            numbers = [
                f"R {group.base_reward[pick]:+.2f}, penalty {group.penalty[pick]:.2f}, "
                f"judged: {prompt.verdicts[pick]}"
                for pick in picks
            ]
            found.append(
                Contrast(
                    prompt.question.prompt(prompt.stance, prompt.wording),
                    (prompt.texts[picks[0]], prompt.texts[picks[1]]),
                    (numbers[0], numbers[1]),
                )
            )
    return found[:: max(1, len(found) // MOST_CHOICES)][:MOST_CHOICES]
