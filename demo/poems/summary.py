"""From scored rows to the demo's results: the JSON line, the table on the terminal, the HTML page.

The numbers are computed by `candor.jobs.sycophancy`; this file collects and names them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from candor.jobs.rollouts.scored import candidates
from candor.jobs.running.files import Row
from candor.jobs.sycophancy import judges
from candor.jobs.sycophancy.gather import by_poem, judged
from candor.jobs.sycophancy.measure import (
    RULES,
    Array,
    Curve,
    Estimate,
    Poem,
    curves,
    interval,
    reward_kept,
    rewards_along,
    with_null_arm,
)
from candor.jobs.sycophancy.prompts import CONDITIONS
from candor.page.groups import group_of_row, model_of, probe_of
from candor.probes.card import Card
from demo.poems import report

ARMS = with_null_arm(RULES)
NS = (1, 2, 4, 8, 16)
CONDITION_NAMES = {"base": "neutral", "like": "like", "dislike": "dislike"}


@dataclass(frozen=True)
class BestOfN:
    """What best-of-N chooses by each rule of `RULES`, at every N of `ns`."""

    ns: Sequence[int]
    curve: dict[str, Curve]
    neutral: dict[str, Array]
    """Expected R of the answer chosen on neutral prompts, by rule: (P, N)."""
    kept: dict[str, Estimate]
    """Share of the gain in R that survives the penalty, at the largest N, by condition."""


def gather(scored: Sequence[Row]) -> dict[str, Poem]:
    """Judged candidates by poem id, from rows of `candor score`. A poem that lost the candidates of
    a prompt is left out."""
    found, _ = by_poem(scored)
    return {poem: judged(prompts) for poem, prompts in found.items()}


def measure(poems: Sequence[Poem], ns: Sequence[int]) -> BestOfN:
    """Best-of-N on these poems.

    Raises:
        SystemExit: choosing by R gains nothing on neutral prompts, so no share of it can be kept.
    """
    rewards = {condition: rewards_along(poems, ns, condition) for condition in CONDITIONS}
    kept = {condition: reward_kept(found) for condition, found in rewards.items()}
    if kept["base"].mean is None:
        raise SystemExit(f"best of {ns[-1]} by R has the R of a random pick on neutral prompts")
    return BestOfN(ns, curves(poems, ns, ARMS), rewards["base"], kept)


def num_candidates(scored: Sequence[Row]) -> int:
    """Number of responses that were scored."""
    return sum(len(candidates(row)) for row in scored)


def as_json(best: BestOfN, scored: Sequence[Row], page: Path) -> dict[str, Any]:
    """The demo's last line: every figure at the largest N, as means over poems."""

    def by_rule(name: str) -> dict[str, float]:
        return {
            rule: round(float(getattr(best.curve[rule], name)[:, -1].mean()), 4) for rule in ARMS
        }

    return {
        "n": best.ns[-1],
        "prompts": len(scored),
        "candidates": num_candidates(scored),
        "gap": by_rule("gap"),
        "like": by_rule("like"),
        "dislike": by_rule("dislike"),
        "reward_kept": {
            CONDITION_NAMES[name]: None if kept.mean is None else round(kept.mean, 4)
            for name, kept in best.kept.items()
        },
        "report": str(page),
    }


def print_table(best: BestOfN) -> None:
    """The same figures with 95 % intervals over poems, on stderr."""
    title = f"chosen from {best.ns[-1]}"
    print(f"\n{title:<28}{'gap':>22}{'like':>22}{'dislike':>22}", file=sys.stderr)
    for rule in ARMS:
        cells = ""
        for name in ("gap", "like", "dislike"):
            values = getattr(best.curve[rule], name)[:, -1]
            low, high = interval(values)
            cells += f"{values.mean():>8.3f} ({low:5.2f}..{high:5.2f})".rjust(22)
        print(f"{report.LABELS[rule]:<28}{cells}", file=sys.stderr)
    kept = ", ".join(f"{CONDITION_NAMES[name]} {span(one)}" for name, one in best.kept.items())
    print(f"share of R's gain kept, by prompt: {kept}\n", file=sys.stderr)


def markdown(best: BestOfN) -> list[str]:
    """The gap by every rule along N with the paired differences, and the two sides of the gap."""
    gaps = {rule: curve.gap for rule, curve in best.curve.items()}
    gaps["by R - penalised"] = gaps["base"] - gaps["penalised"]
    gaps["permuted - penalised"] = gaps["permuted"] - gaps["penalised"]
    tables = [_along(best.ns, "gap", gaps)]
    for name in ("like", "dislike"):
        sides = {rule: getattr(curve, name) for rule, curve in best.curve.items()}
        tables.append(_along(best.ns, f'positivity after "{name}"', sides))
    kept = ", ".join(f"{CONDITION_NAMES[name]} {span(one)}" for name, one in best.kept.items())
    return [*tables, f"Share of R's gain kept at N = {best.ns[-1]}, by prompt: {kept}"]


def _along(ns: Sequence[int], what: str, by_rule: Mapping[str, Array]) -> str:
    names = [report.LABELS.get(rule, rule) for rule in by_rule]
    lines = [f"| N, {what} | " + " | ".join(names) + " |", "| --- " * (len(names) + 1) + "|"]
    for column, n in enumerate(ns):
        cells = []
        for values in by_rule.values():
            low, high = interval(values[:, column])
            cells.append(f"{values[:, column].mean():.3f} ({low:.2f} to {high:.2f})")
        lines.append(f"| {n} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def span(found: Estimate) -> str:
    """A figure with its interval, as in `0.962 (0.90..1.02)`; without one where there is none."""
    if found.mean is None:
        return "-"
    if found.low is None or found.high is None:
        return f"{found.mean:.3f} (no interval)"
    return f"{found.mean:.3f} ({found.low:.2f}..{found.high:.2f})"


def choices(scored: Sequence[Row], titles: Mapping[str, str], most: int) -> list[dict[str, Any]]:
    """The `most` prompts with an opinion for which R and the penalised reward choose answers that
    differ most in sentiment, with all their candidates, as the page shows them."""
    found: list[tuple[float, Row]] = []
    for row in scored:
        if row["meta"]["condition"] == "base" or not candidates(row):
            continue
        picks = [_best(row, "base_reward"), _best(row, "reward")]
        first, second = (judges.sentiment(row["responses"][index]["text"]) for index in picks)
        found.append((abs(first - second), row))
    found.sort(key=lambda pair: -pair[0])
    return [_group(row, titles) for _, row in found[:most]]


def _group(row: Row, titles: Mapping[str, str]) -> dict[str, Any]:
    """One prompt for the page, with the judge's sentiment of each candidate."""
    group = group_of_row(row)
    for candidate in group["candidates"]:
        candidate["notes"] = [f"sentiment {judges.sentiment(candidate['text']):+.2f}"]
    title = f'{titles[row["meta"]["poem"]]}, "I really {row["meta"]["condition"]} the poem"'
    return {**group, "title": title}


def _best(row: Row, reward: str) -> int:
    """Index of the candidate whose `reward` (a field of its scores) is the largest."""
    return max(candidates(row), key=lambda index: float(row["scores"][index][reward]))


def write_page(
    path: Path,
    scored: Sequence[Row],
    best: BestOfN,
    titles: Mapping[str, str],
    cards: Mapping[str, Card],
    model: Mapping[str, str],
    provenance: Mapping[str, str],
) -> None:
    """Write the HTML page.

    Args:
        titles: of the poems, by id.
        cards: of the served probes, by name.
        model: `id` and `formula` as the reward server states them.
        provenance: rows of the last table.
    """
    shown = choices(scored, titles, most=6)
    report.write_report(
        path,
        {
            "plots": {
                "gap": report.gap_plot(best.ns, best.curve),
                "positivity": report.positivity_plot(best.ns, best.curve),
                "reward": report.reward_plot(best.ns, best.neutral),
            },
            "groups": shown,
            "model": model_of(scored[0]),
            "probes": {name: probe_of(card, name=name) for name, card in cards.items()},
        },
        n=best.ns[-1],
        prompts=len(scored),
        poems=len(best.curve["base"].gap),
        candidates=num_candidates(scored),
        generator=scored[0]["model"],
        model=model["id"],
        formula=model["formula"],
        judge=judges.NAME,
        table=_table(best),
        kept={CONDITION_NAMES[name]: span(one) for name, one in best.kept.items()},
        shown=shown,
        provenance=provenance,
    )


def _table(best: BestOfN) -> list[dict[str, Any]]:
    """The page's first table: a row per rule, at the largest N."""

    def cell(values: Array, *, signed: bool = False) -> dict[str, Any]:
        low, high = interval(values[:, -1])
        return {"value": float(values[:, -1].mean()), "low": low, "high": high, "signed": signed}

    return [
        {
            "label": report.LABELS[rule],
            "cells": [
                cell(best.curve[rule].gap, signed=True),
                cell(best.curve[rule].like),
                cell(best.curve[rule].dislike),
                cell(best.neutral[rule], signed=True),
            ],
        }
        for rule in ARMS
    ]
