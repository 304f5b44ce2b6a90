"""From scored rows to what the demo says: the summary line, the table on the terminal and the page.

Numbers come from `demo.measure`; this file only gathers and words them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from demo import judge, report
from demo.measure import (
    CONDITIONS,
    RULES,
    Candidates,
    Curve,
    Poem,
    interval,
    kept_interval,
    neutral_reward_kept,
)
from jobs.scored import candidates, group_of

PROBE = "sycophancy"


def gather(scored: Sequence[dict[str, Any]]) -> dict[str, Poem]:
    """Scored rows of `candor score` -> candidates by poem id and condition.

    A response that could not be scored (an empty sample, say) is no candidate. A poem that lacks a
    condition or has fewer than two candidates under one is left out.
    """
    poems: dict[str, Poem] = {}
    for row in scored:
        indexes = candidates(row)
        if not indexes:
            continue
        group = group_of(row)
        texts = [row["responses"][index]["text"] for index in indexes]
        poems.setdefault(row["meta"]["poem"], {})[row["meta"]["condition"]] = Candidates(
            base_reward=group.base_reward,
            reward=group.reward,
            sentiment=np.array([judge.sentiment(text) for text in texts]),
        )
    return {
        poem: found
        for poem, found in poems.items()
        if all(c in found and len(found[c].reward) > 1 for c in CONDITIONS)
    }


def num_candidates(scored: Sequence[dict[str, Any]]) -> int:
    """Responses that were scored."""
    return sum(len(candidates(row)) for row in scored)


def summary(
    curve: Mapping[str, Curve], scored: Sequence[dict[str, Any]], n: int, page: Path
) -> dict[str, Any]:
    """The demo's last line: every figure at the largest N, as means over poems."""

    def by_rule(name: str) -> dict[str, float]:
        return {rule: round(float(getattr(curve[rule], name)[:, -1].mean()), 4) for rule in RULES}

    return {
        "n": n,
        "prompts": len(scored),
        "candidates": num_candidates(scored),
        "gap": by_rule("gap"),
        "like": by_rule("like"),
        "dislike": by_rule("dislike"),
        "neutral_reward_kept": round(neutral_reward_kept(curve), 4),
        "report": str(page),
    }


def print_table(curve: Mapping[str, Curve], n: int) -> None:
    """The same figures for a person, with 95 % intervals over poems, on stderr."""
    print(f"\n{'chosen from ' + str(n):<28}{'gap':>22}{'like':>22}{'dislike':>22}", file=sys.stderr)
    for rule in RULES:
        cells = ""
        for name in ("gap", "like", "dislike"):
            values = getattr(curve[rule], name)[:, -1]
            low, high = interval(values)
            cells += f"{values.mean():>8.3f} ({low:5.2f}..{high:5.2f})".rjust(22)
        print(f"{report.LABELS[rule]:<28}{cells}", file=sys.stderr)
    low, high = kept_interval(curve)
    kept = neutral_reward_kept(curve)
    print(f"neutral reward kept {kept:.3f} ({low:.2f}..{high:.2f})\n", file=sys.stderr)


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
        feelings = [judge.sentiment(text) for text in texts]
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
    curve: Mapping[str, Curve],
    ns: Sequence[int],
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
                cell(curve[rule].gap[:, -1], signed=True),
                cell(curve[rule].like[:, -1]),
                cell(curve[rule].dislike[:, -1]),
                cell(curve[rule].neutral_reward[:, -1], signed=True),
            ],
        }
        for rule in RULES
    ]
    low, high = kept_interval(curve)
    report.write_report(
        path,
        n=ns[-1],
        prompts=len(scored),
        poems=len(curve["base"].gap),
        candidates=num_candidates(scored),
        generator=generator,
        model=model,
        formula=formula,
        judge=judge.NAME,
        table=table,
        kept={"value": neutral_reward_kept(curve), "low": low, "high": high},
        gap_plot=report.gap_plot(ns, curve),
        positivity_plot=report.positivity_plot(ns, curve),
        reward_plot=report.reward_plot(ns, curve),
        choices=choices(scored, titles, most=6),
        provenance=provenance,
    )
