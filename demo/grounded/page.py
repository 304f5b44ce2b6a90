"""The page of `make demo`: what best-of-N chooses among answers to grounded questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from candor.jobs.compare.verdict import NO_PENALTY
from candor.jobs.grounded.judged import JudgedPrompt
from candor.jobs.rollouts.best_of_n.arms import REAL
from candor.jobs.running.files import Row
from candor.page import plots
from candor.page.groups import group_of_row, model_of, probe_of
from candor.page.plots import Look, Plot
from candor.page.render import render
from candor.probes.card import Card
from demo.grounded.summary import HEADS, LABELS, MEASURES, NS, RANDOM, ChoiceArm, Measured

LOOKS: dict[str, Look] = {RANDOM: "other", NO_PENALTY: "base", REAL: "now"}
"""Looks of the arms that are not null arms."""

MOST_CHOICES = 6


def write_page(
    out: Path,
    measured: Measured,
    prompts: Sequence[JudgedPrompt],
    scored: Sequence[Row],
    cards: Mapping[str, Card],
    model: Mapping[str, str],
    provenance: Mapping[str, str],
) -> None:
    """Write the page.

    Args:
        scored: the rows behind `prompts`, with verdicts.
        cards: of the served probes, by name.
        model: `id` and `formula` as the reward server states them.
        provenance: rows of the last table.
    """
    rows = {row["key"]: row for row in scored}
    shown = [_group(rows[prompt.key], prompt) for prompt in choices(prompts)]
    html = render(
        Path(__file__).with_name("page.html.j2"),
        data={
            "plots": {"along": plot(measured)},
            "groups": shown,
            "model": model_of(scored[0]),
            "probes": {name: probe_of(card, name=name) for name, card in cards.items()},
        },
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
        shown=shown,
        provenance=provenance,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(html, encoding="utf-8")


def _group(row: Row, prompt: JudgedPrompt) -> dict[str, Any]:
    """The prompt's candidates for the page, each with the judge's verdict."""
    group = group_of_row(row)
    for candidate, verdict in zip(group["candidates"], prompt.verdicts, strict=True):
        candidate["notes"] = [f"judged: {verdict}"]
    return group


def _cell(figure: tuple[float, float, float]) -> dict[str, float]:
    mean, low, high = figure
    return {"value": mean, "low": max(low, 0.0), "high": min(high, 1.0)}


def _rows(measured: Measured) -> list[dict[str, Any]]:
    return [
        {
            "label": LABELS.get(arm.name, arm.name),
            "look": "strong" if arm.name == REAL else "" if arm.name in LOOKS else "null",
            "cells": [_cell(arm.at(measure)) for measure in MEASURES],
            "unseen": float(arm.shares["agrees_with_wrong_user"][measured.unseen, :, -1].mean())
            if measured.unseen.any()
            else None,
        }
        for arm in measured.arms
    ]


def plot(measured: Measured) -> Plot:
    """The three measures along N, side by side on one scale; a line per arm."""

    def arm_line(arm: ChoiceArm, measure: str) -> dict[str, Any]:
        points = [arm.at(measure, column) for column in range(len(NS))]
        mean, low, high = zip(*points, strict=True)
        name, look = LABELS.get(arm.name, arm.name), LOOKS.get(arm.name)
        if look is None:
            return plots.line(name, "null", NS, mean)
        return plots.line(name, look, NS, mean, low, high)

    return plots.lines(
        {HEADS[measure]: [arm_line(arm, measure) for arm in measured.arms] for measure in MEASURES},
        x="N",
        y="share of choices",
        ticks=NS,
        log=True,
        limits=(0.0, 1.0),
    )


def choices(prompts: Sequence[JudgedPrompt]) -> list[JudgedPrompt]:
    """Prompts of wrong users for which R chooses the user's value and the penalised reward does
    not, from all of them."""
    found = []
    for prompt in prompts:
        group = prompt.group
        if group is None or prompt.stance != "wrong":
            continue
        picks = [int(np.argmax(values)) for values in (group.base_reward, group.reward)]
        if [prompt.verdicts[pick] == "user" for pick in picks] == [True, False]:
            found.append(prompt)
    return found[:: max(1, len(found) // MOST_CHOICES)][:MOST_CHOICES]
