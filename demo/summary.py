"""From scored rows to what the demo says: the summary line, the table on the terminal and the page.

Numbers come from `candor.jobs.sycophancy`; this file only gathers and words them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from candor.jobs.rollouts.scored import candidates
from candor.jobs.sycophancy import judges
from candor.jobs.sycophancy.gather import by_poem, judged
from candor.jobs.sycophancy.measure import (
    RULES,
    Array,
    Curve,
    Poem,
    curves,
    interval,
    neutral_reward_kept,
    neutral_rewards,
)
from demo import report

PROBE = "sycophancy"


@dataclass(frozen=True)
class Numbers:
    """Everything that is told, by rule of choosing."""

    ns: Sequence[int]
    curve: dict[str, Curve]
    neutral: dict[str, Array]  # (P, N) expected R of the chosen neutral answer
    kept: float
    """Share of the neutral prompts' gain in R that survives the penalty, at the largest N."""
    kept_interval: tuple[float, float]


def gather(scored: Sequence[dict[str, Any]]) -> dict[str, Poem]:
    """Scored rows of `candor score` -> judged candidates by poem id; lost poems are left out."""
    found, _ = by_poem(scored)
    return {poem: judged(prompts) for poem, prompts in found.items()}


def numbers(poems: Sequence[Poem], ns: Sequence[int]) -> Numbers:
    """Raises SystemExit where choosing by R gains nothing, so that nothing can be kept of it."""
    neutral = neutral_rewards(poems, ns)
    kept = neutral_reward_kept(neutral)
    if kept.mean is None or kept.low is None or kept.high is None:
        raise SystemExit(f"best of {ns[-1]} by R has the R of a random pick on neutral prompts")
    return Numbers(ns, curves(poems, ns), neutral, kept.mean, (kept.low, kept.high))


def num_candidates(scored: Sequence[dict[str, Any]]) -> int:
    """Responses that were scored."""
    return sum(len(candidates(row)) for row in scored)


def summary(told: Numbers, scored: Sequence[dict[str, Any]], page: Path) -> dict[str, Any]:
    """The demo's last line: every figure at the largest N, as means over poems."""

    def by_rule(name: str) -> dict[str, float]:
        return {
            rule: round(float(getattr(told.curve[rule], name)[:, -1].mean()), 4) for rule in RULES
        }

    return {
        "n": told.ns[-1],
        "prompts": len(scored),
        "candidates": num_candidates(scored),
        "gap": by_rule("gap"),
        "like": by_rule("like"),
        "dislike": by_rule("dislike"),
        "neutral_reward_kept": round(told.kept, 4),
        "report": str(page),
    }


def print_table(told: Numbers) -> None:
    """The same figures for a person, with 95 % intervals over poems, on stderr."""
    title = f"chosen from {told.ns[-1]}"
    print(f"\n{title:<28}{'gap':>22}{'like':>22}{'dislike':>22}", file=sys.stderr)
    for rule in RULES:
        cells = ""
        for name in ("gap", "like", "dislike"):
            values = getattr(told.curve[rule], name)[:, -1]
            low, high = interval(values)
            cells += f"{values.mean():>8.3f} ({low:5.2f}..{high:5.2f})".rjust(22)
        print(f"{report.LABELS[rule]:<28}{cells}", file=sys.stderr)
    low, high = told.kept_interval
    print(f"neutral reward kept {told.kept:.3f} ({low:.2f}..{high:.2f})\n", file=sys.stderr)


def choices(
    scored: Sequence[dict[str, Any]], titles: Mapping[str, str], most: int
) -> list[report.Choice]:
    """The prompts with an opinion on which the two rewards' choices differ most in sentiment."""
    found: list[tuple[float, report.Choice]] = []
    for row in scored:
        if row["meta"]["condition"] == "base" or not candidates(row):
            continue
        picks = [_best(row, "base_reward"), _best(row, "reward")]
        texts = [row["responses"][i]["text"] for i in picks]
        feelings = [judges.sentiment(text) for text in texts]
        numbers = [
            f"R {row['scores'][i]['base_reward']:+.2f}, "
            f"S {row['scores'][i]['probes'][PROBE]['score']:+.2f}, sentiment {feeling:+.2f}"
            for i, feeling in zip(picks, feelings, strict=True)
        ]
        choice = report.Choice(
            title=titles[row["meta"]["poem"]],
            condition=f'"I really {row["meta"]["condition"]} the poem"',
            prompt=row["messages"][-1]["content"],
            base_text=texts[0],
            base_numbers=numbers[0],
            penalised_text=texts[1],
            penalised_numbers=numbers[1],
        )
        found.append((abs(feelings[0] - feelings[1]), choice))
    found.sort(key=lambda pair: -pair[0])
    return [choice for _, choice in found[:most]]


def _best(row: dict[str, Any], reward: str) -> int:
    """Index of the candidate whose `reward` (a field of its scores) is the largest."""
    return max(candidates(row), key=lambda index: float(row["scores"][index][reward]))


def page(
    path: Path,
    *,
    scored: Sequence[dict[str, Any]],
    told: Numbers,
    titles: Mapping[str, str],
    generator: str,
    model: str,
    formula: str,
    provenance: Mapping[str, str],
) -> None:
    """Write the HTML report."""

    def cell(values: Any, *, signed: bool = False) -> dict[str, Any]:
        low, high = interval(values)
        return {"value": float(values.mean()), "low": low, "high": high, "signed": signed}

    table = [
        {
            "label": report.LABELS[rule],
            "cells": [
                cell(told.curve[rule].gap[:, -1], signed=True),
                cell(told.curve[rule].like[:, -1]),
                cell(told.curve[rule].dislike[:, -1]),
                cell(told.neutral[rule][:, -1], signed=True),
            ],
        }
        for rule in RULES
    ]
    low, high = told.kept_interval
    report.write_report(
        path,
        n=told.ns[-1],
        prompts=len(scored),
        poems=len(told.curve["base"].gap),
        candidates=num_candidates(scored),
        generator=generator,
        model=model,
        formula=formula,
        judge=judges.NAME,
        table=table,
        kept={"value": told.kept, "low": low, "high": high},
        gap_plot=report.gap_plot(told.ns, told.curve),
        positivity_plot=report.positivity_plot(told.ns, told.curve),
        reward_plot=report.reward_plot(told.ns, told.neutral),
        choices=choices(scored, titles, most=6),
        provenance=provenance,
    )
