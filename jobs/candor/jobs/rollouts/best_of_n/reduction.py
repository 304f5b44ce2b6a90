"""Whether a penalty reduces what it should: the target under every arm, what each arm costs, and
the costs at an equal fall.

The target is a yes or no of each response, such as "sides with the user's wrong value". Of each arm
the report says, at the largest N, how often the choice has it, and what is kept: the share of
best-of-N's gain in R, and of a second yes or no, such as "gives the right value", by condition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from candor.jobs.compare.pareto import ArmCurve, fall_levels
from candor.jobs.compare.selection import Array
from candor.jobs.compare.verdict import NO_PENALTY, by_unit, fall_verdict, mean_interval
from candor.jobs.rollouts.best_of_n.arms import ABOUT, REAL, Weights, arm_weights
from candor.jobs.rollouts.best_of_n.figures import EQUAL_FALL, falls_plot
from candor.jobs.rollouts.best_of_n.prompts import Aim, Prompts
from candor.jobs.rollouts.scored import ScoredGroup
from candor.jobs.rollouts.variants import Variant
from candor.page.plots import Plot
from candor.probes.statistics.intervals import ratio_interval


def reduction(
    prompts: Prompts, aim: Aim, variants: Sequence[Variant], n: int
) -> tuple[dict[str, Any], dict[str, Plot]]:
    """The report's part `reduction`, and the plot of costs against falls by its caption (none
    without a sweep)."""
    strengths = [_at_strength(prompts, prompts.groups, n, {"as": "scored"})]
    curves: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for variant in variants:
        changed = [variant.apply(group) for group in prompts.groups]
        entry = _at_strength(prompts, changed, n, variant.as_json())
        strengths.append(entry)
        if variant.section != "closed_form":
            curves.setdefault((variant.section, variant.name), []).append(entry)
    found: dict[str, Any] = {
        "n": n,
        "target": aim.target.spec,
        "where": None if aim.where is None else "=".join(aim.where),
        "keep": None if aim.keep is None else aim.keep.spec,
        "unit": ",".join(aim.unit) or "prompt",
        "interval": "95 %, t over units",
        "arms": {name: ABOUT.get(name, name) for name in strengths[0]["arms"]},
        "strengths": strengths,
    }
    drawn: dict[str, Plot] = {}
    if curves:
        # The longest sweep; a second one says the same in other units.
        (section, probe), entries = max(curves.items(), key=lambda item: len(item[1]))
        by_arm = arm_curves(entries)
        found["equal_fall"] = {"sweep": section, "probe": probe, "levels": equal_falls(by_arm)}
        drawn[EQUAL_FALL] = falls_plot(by_arm, aim)
    return found, drawn


def _at_strength(
    prompts: Prompts, groups: Sequence[ScoredGroup], n: int, strength: Mapping[str, Any]
) -> dict[str, Any]:
    arms, left_out = arm_weights(groups, n, prompts.sources)
    units = [unit for unit, use in zip(prompts.units, prompts.aimed, strict=True) if use]
    targets = {
        name: by_unit(_expected(weights, prompts.target)[prompts.aimed], units)
        for name, weights in arms.items()
    }
    nulls = {name: values for name, values in targets.items() if name != REAL}
    return {
        "strength": dict(strength),
        "arms_left_out": left_out,
        "verdict": fall_verdict(targets[REAL].mean(axis=1), nulls).as_json(),
        "arms": {
            name: {
                "target": _figure(targets[name]),
                "kept": _kept(prompts, weights, arms[NO_PENALTY]),
            }
            for name, weights in arms.items()
        },
    }


def _kept(prompts: Prompts, weights: Weights, best: Weights) -> dict[str, dict[str, Any]]:
    """By condition: the share of R's gain over a random pick that the arm keeps (a ratio of sums
    with Fieller's interval; None where R gains nothing), and how often the choice has the target
    and what should stay."""
    rewards = [group.base_reward for group in prompts.groups]
    chance = np.array([values.mean() for values in rewards])
    top = _expected(weights, rewards).mean(axis=1) - chance
    bottom = _expected(best, rewards).mean(axis=1) - chance
    columns = {"target": prompts.target, "keep": prompts.keep}
    shares = {
        name: _expected(weights, values).mean(axis=1)
        for name, values in columns.items()
        if values is not None
    }
    found = {}
    for condition in dict.fromkeys(prompts.conditions):
        rows = np.array([one == condition for one in prompts.conditions])
        units = [unit for unit, use in zip(prompts.units, rows, strict=True) if use]
        found[condition] = {
            "R": _ratio(*(by_unit(side[rows], units) for side in (top, bottom))),
            **{name: _figure(by_unit(share[rows], units)) for name, share in shares.items()},
        }
    return found


def arm_curves(entries: Sequence[Mapping[str, Any]]) -> dict[str, ArmCurve]:
    """Every arm along the strengths of a sweep, from no penalty upwards.

    What is kept is named "R, CONDITION" and "keep, CONDITION".
    """
    ordered = sorted(entries, key=lambda entry: float(entry["strength"]["lambda"]))
    start = ordered[0]["arms"][NO_PENALTY]
    found = {}
    for name in ordered[-1]["arms"]:
        if name == NO_PENALTY:
            continue
        along = [start, *(entry["arms"][name] for entry in ordered if name in entry["arms"])]
        kept: dict[str, list[float]] = {}
        for point in along:
            for condition, values in point["kept"].items():
                if values["R"] is not None:
                    kept.setdefault(f"R, {condition}", []).append(values["R"]["mean"])
                if "keep" in values:
                    kept.setdefault(f"keep, {condition}", []).append(values["keep"]["mean"])
        found[name] = ArmCurve(
            np.array([point["target"]["mean"] for point in along]),
            {label: np.array(values) for label, values in kept.items()},
        )
    return found


def equal_falls(curves: Mapping[str, ArmCurve]) -> list[dict[str, Any]]:
    """What each arm keeps where the target has fallen equally far; None where an arm's target never
    falls so far."""
    return [
        {"fall": level, "kept": {name: curve.at_fall(level) for name, curve in curves.items()}}
        for level in fall_levels(curves, REAL)
    ]


def _figure(values: Array) -> dict[str, float | None]:
    mean, low, high = mean_interval(values)
    ends = (end if math.isfinite(end) else None for end in (low, high))
    return dict(zip(("mean", "low", "high"), (mean, *ends), strict=True))


def _ratio(top: Array, bottom: Array) -> dict[str, float | None] | None:
    if bottom.sum() <= 0:
        return None
    low, high = ratio_interval(top, bottom) or (None, None)
    return {"mean": float(top.sum() / bottom.sum()), "low": low, "high": high}


def _expected(weights: Weights, values: Sequence[Array]) -> Array:
    """[P, K]: expectation of the candidates' values under each set of weights."""
    return np.array([chosen @ one for chosen, one in zip(weights, values, strict=True)])
