"""Best-of-N curves: what each rule's choice has, at every N and under every strength.

The paper (arXiv 2412.00967) draws one subset of N candidates for each N. Here each point is the
exact expectation over all subsets, so a curve along N has no sampling noise of its own; t intervals
over prompts show the remaining uncertainty: which prompts, and which M candidates of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from candor.jobs.compare.selection import expected, selection_weights
from candor.jobs.rollouts.scored import Array, ScoredGroup
from candor.jobs.rollouts.variants import Variant
from candor.probes.statistics.intervals import t_intervals

RULES = ("base_reward", "reward")
"""Choose by R, or by R minus the penalties."""


def picked(group: ScoredGroup, rule: str, n: int) -> Array:
    """[K]: expected R, S of each probe, and reward of the best-of-n pick by `rule`."""
    weights = selection_weights(group.base_reward if rule == "base_reward" else group.reward, n)
    rows = [group.base_reward, *group.scores.values(), group.reward]
    return np.array([expected(row, weights) for row in rows])


def curve(groups: Sequence[ScoredGroup], rule: str, ns: Sequence[int]) -> list[dict[str, Any]]:
    """One entry per n: mean and interval of the pick's R, each S and reward."""
    names = list(groups[0].scores)
    values = np.array([[picked(group, rule, n) for n in ns] for group in groups])  # [P, N, K]
    flat = values.reshape(len(groups), -1)
    low, high = (side.reshape(values.shape[1:]) for side in t_intervals(flat))
    mean = values.mean(axis=0)

    def interval(k: int, column: int) -> dict[str, float | None]:
        sides = (float(side[k, column]) for side in (mean, low, high))
        known = (None if math.isnan(side) else side for side in sides)  # one prompt has no interval
        return dict(zip(("mean", "low", "high"), known, strict=True))

    return [
        {
            "n": n,
            "base_reward": interval(k, 0),
            "scores": {name: interval(k, 1 + i) for i, name in enumerate(names)},
            "reward": interval(k, 1 + len(names)),
        }
        for k, n in enumerate(ns)
    ]


def compare(
    groups: Sequence[ScoredGroup], ns: Sequence[int], variants: Sequence[Variant]
) -> dict[str, Any]:
    """The report: both rules at every n, and the penalised rule under every variant."""
    report: dict[str, Any] = {
        "n": list(ns),
        "interval": "95 %, Student's t over prompts",
        "chosen_by": {rule: curve(groups, rule, ns) for rule in RULES},
        "lambda_sweep": {},
        "kappa_sweep": {},
        "closed_form": {},
    }
    for variant in variants:
        changed = [variant.apply(group) for group in groups]
        entry: dict[str, Any] = dict(variant.strength)
        if variant.section == "closed_form":
            lambdas = [group.lambdas[variant.name][0] for group in changed]
            entry["mean_lambda"] = float(np.mean(lambdas))
            entry["share_penalised"] = float(np.mean([lambda_ > 0 for lambda_ in lambdas]))
        entry["best_of_n"] = curve(changed, "reward", ns)
        report[variant.section].setdefault(variant.name, []).append(entry)
    return report
