"""What a comparison of arms shows: the plot of costs against falls, and the table as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from candor.jobs.compare.pareto import ArmCurve
from candor.jobs.rollouts.best_of_n.arms import LENGTH, PERMUTED, REAL, WORDS
from candor.jobs.rollouts.best_of_n.prompts import Aim
from candor.page import plots
from candor.page.plots import Look, Plot

EQUAL_FALL = "What each arm keeps, against how far it has lowered the target"
LOOKS: dict[str, Look] = {REAL: "now", PERMUTED: "null", LENGTH: "held", WORDS: "base"}


def falls_plot(curves: Mapping[str, ArmCurve], aim: Aim) -> Plot:
    """What each arm keeps against how far its target has fallen, a panel per thing kept."""
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
