"""Whether a penalty reduces what it should: the target under every arm, what each arm costs, and
the costs at an equal fall.

The target is a yes or no of each response, such as "sides with the user's wrong value". Of each arm
the report says, at the largest N, how often the choice has it, and what is kept: the share of
best-of-N's gain in R, and of a second yes or no, such as "gives the right value", by condition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from candor.flags import UsageError
from candor.jobs.compare.pareto import ArmCurve, fall_levels
from candor.jobs.compare.selection import Array
from candor.jobs.compare.verdict import NO_PENALTY, by_unit, fall_verdict, mean_interval
from candor.jobs.compare.words import WordList
from candor.jobs.rollouts.arms import (
    ABOUT,
    LENGTH,
    PERMUTED,
    REAL,
    WORDS,
    NullSources,
    Weights,
    arm_weights,
)
from candor.jobs.rollouts.response_flags import ResponseFlag
from candor.jobs.rollouts.scored import ScoredGroup, candidates, field_of
from candor.jobs.rollouts.variants import Variant
from candor.jobs.running.files import Row
from candor.page import plots
from candor.page.plots import Look, Plot
from candor.probes.statistics.intervals import ratio_interval

EVERYWHERE = "all prompts"


@dataclass(frozen=True)
class Aim:
    """What should fall, where, and what should stay.

    Attributes:
        target: of each response, what should become rarer.
        where: (field of the rows, value): the prompts that the target is about; None: all.
        keep: of each response, what should stay as frequent; None: nothing but R.
        unit: fields of the rows; prompts that agree in all of them are one unit. Empty: each prompt
            is a unit.
    """

    target: ResponseFlag
    where: tuple[str, str] | None
    keep: ResponseFlag | None
    unit: tuple[str, ...]


@dataclass(frozen=True)
class Prompts:
    """The rows of a comparison as arrays, P prompts with M candidates each.

    Attributes:
        target, keep: 1.0 where the response has it, [M] for each prompt; `keep` None without one.
        conditions: of each prompt.
        aimed: [P] bool: whether the target is about the prompt.
        units: of each prompt.
    """

    groups: Sequence[ScoredGroup]
    target: Sequence[Array]
    keep: Sequence[Array] | None
    conditions: Sequence[str]
    aimed: np.ndarray[Any, np.dtype[np.bool_]]
    units: Sequence[str]
    sources: NullSources


def prompts_of(
    scored: Path,
    kept: Sequence[tuple[Row, ScoredGroup]],
    aim: Aim,
    *,
    null_probes: Mapping[str, Sequence[str]],
    words: WordList | None,
    seed: int,
) -> Prompts:
    """The rows as the comparison reads them.

    Raises:
        UsageError: a row lacks a field or a response lacks what a flag reads; no row is in the
            condition; or every or no response there has the target.
    """
    rows = [row for row, _ in kept]
    field = aim.where[0] if aim.where else None
    conditions = [
        EVERYWHERE if field is None else field_of(scored, row, field, "--where") for row in rows
    ]
    aimed = np.array([aim.where is None or one == aim.where[1] for one in conditions])
    if not aimed.any():
        known = ", ".join(sorted(set(conditions)))
        raise UsageError(f"--where {field}={aim.where and aim.where[1]}: the rows have {known}")
    target = [_flags(scored, row, aim.target) for row in rows]
    there = np.concatenate([one for one, use in zip(target, aimed, strict=True) if use])
    if there.min() == there.max():
        raise UsageError(
            f"--target {aim.target.spec}: {'every' if there.max() else 'no'} response "
            f"{'there ' if aim.where else ''}has it, so no choice can change it"
        )
    return Prompts(
        groups=[group for _, group in kept],
        target=target,
        keep=None if aim.keep is None else [_flags(scored, row, aim.keep) for row in rows],
        conditions=conditions,
        aimed=aimed,
        units=[
            "/".join(field_of(scored, row, name, "--unit") for name in aim.unit) or row["key"]
            for row in rows
        ],
        sources=NullSources(
            [[_text(row["responses"][place]) for place in candidates(row)] for row in rows],
            null_probes,
            words,
            seed,
        ),
    )


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
        drawn[EQUAL_FALL] = _plot(by_arm, aim)
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


EQUAL_FALL = "What each arm keeps, against how far it has lowered the target"
LOOKS: dict[str, Look] = {REAL: "now", PERMUTED: "null", LENGTH: "held", WORDS: "base"}


def _plot(curves: Mapping[str, ArmCurve], aim: Aim) -> Plot:
    labels = list(dict.fromkeys(label for curve in curves.values() for label in curve.kept))
    panels = {
        _panel_label(label, aim): [
            plots.line(
                name,
                LOOKS.get(name, "fourth"),
                curve.falls.tolist(),
                curve.kept[label].tolist(),
            )
            for name, curve in curves.items()
        ]
        for label in labels
    }
    return plots.lines(panels, x=f"fall of {aim.target.spec}", free=True)


def _panel_label(label: str, aim: Aim) -> str:
    what, _, condition = label.partition(", ")
    name = "share of R's gain kept" if what == "R" else aim.keep.spec if aim.keep else what
    return f"{name}, {condition}" if aim.where is None else f"{name}, {aim.where[0]}: {condition}"


def table_lines(found: Mapping[str, Any]) -> list[str]:
    """The arms at the strength that the rows were scored with, as lines of text."""
    entry = found["strengths"][0]
    verdict = entry["verdict"]
    against = {one["arm"]: one["null_minus_real"] for one in verdict["arms"]}
    where = f" where {found['where']}" if found["where"] else ""
    lines = [
        f"best of {found['n']}: {found['target']}{where}, by arm (95 % intervals over units)",
        f"{'arm':<18}{'target':<25}{'arm - penalty':<25}R kept",
    ]
    for name, arm in entry["arms"].items():
        kept = ", ".join(
            f"{condition} {values['R']['mean']:.2f}"
            for condition, values in arm["kept"].items()
            if values["R"] is not None
        )
        difference = _shown(against[name]) if name in against else ""
        lines.append(f"{name:<18}{_shown(arm['target']):<25}{difference:<25}{kept}")
    if entry["arms_left_out"]:
        absent = ", ".join(entry["arms_left_out"])
        lines.append(f"left out, as equal for all responses to each prompt: {absent}")
    lines.append(
        f"the penalty {verdict['word']} {found['target']} (hardest arm: {verdict['hardest_arm']})"
    )
    return lines


def _shown(figure: Mapping[str, float | None]) -> str:
    low, high = ("?" if figure[end] is None else f"{figure[end]:.3f}" for end in ("low", "high"))
    return f"{figure['mean']:.3f} ({low} to {high})"


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


def _flags(scored: Path, row: Row, flag: ResponseFlag) -> Array:
    found = []
    for place in candidates(row):
        try:
            found.append(float(flag(row["responses"][place], row["scores"][place])))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            reason = str(error) if type(error) is ValueError else repr(error)
            raise UsageError(f"{scored}: key {row['key']!r}: response {place} {reason}") from None
    return np.array(found)


def _text(response: Mapping[str, Any]) -> str:
    text = response.get("text")
    return text if isinstance(text, str) else ""
