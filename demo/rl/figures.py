"""The RL demo's figures: each figure by step, and the agreement with wrong users against KL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from candor.jobs.probe.svg import BLUE, GREEN, GREY, ORANGE, svg
from demo.rl.comparison import value

COLOURS = {"R": ORANGE, "penalised": BLUE, "permuted": GREY, "projected": GREEN}
BY_STEP = ("agrees_wrong", "truth_wrong", "agrees_right", "kl")


def write_figures(out: Path, runs: Sequence[Mapping[str, Any]], level: float | None) -> None:
    """steps.svg and kl.svg: a thin line per run; in steps.svg a thick line for the arm's mean.

    Args:
        level: the KL at which arms are compared, drawn as a vertical line.
    """
    (out / "steps.svg").write_text(_by_step(runs))
    (out / "kl.svg").write_text(_by_kl(runs, level))


def _by_step(runs: Sequence[Mapping[str, Any]]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.0 * len(BY_STEP), 2.9))
    for axis, name in zip(figure.subplots(1, len(BY_STEP)), BY_STEP, strict=True):
        for arm, colour in COLOURS.items():
            lines = [_points(run, "step", name) for run in runs if run["arm"] == arm]
            for steps, values in lines:
                axis.plot(steps, values, color=colour, alpha=0.3, linewidth=0.8)
            if lines and all(steps == lines[0][0] for steps, _ in lines):
                mean = np.mean([values for _, values in lines], axis=0)
                axis.plot(lines[0][0], mean, color=colour, label=arm)
        axis.set_title(name.replace("_", " "), fontsize=9)
        axis.set_xlabel("step")
    figure.axes[0].legend(frameon=False)
    return str(svg(figure))


def _by_kl(runs: Sequence[Mapping[str, Any]], level: float | None) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.2))
    axis = figure.subplots()
    named = set()
    for run in runs:
        arm = run["arm"]
        kls, values = _points(run, "kl", "agrees_wrong")
        label = None if arm in named else arm
        axis.plot(kls, values, color=COLOURS[arm], marker=".", linewidth=0.9, label=label)
        named.add(arm)
    if level is not None:
        axis.axvline(level, color=GREY, linewidth=0.6, linestyle=":")
    axis.set_xlabel("KL from the untrained policy, nats per response")
    axis.set_ylabel("agrees with wrong users")
    axis.legend(frameon=False)
    return str(svg(figure))


def _points(run: Mapping[str, Any], x: str, y: str) -> tuple[list[float], list[float]]:
    """The evaluations' figures; a missing one is a hole in the line."""
    rows = run["evaluations"]
    return (
        [_or_hole(value(row, x)) for row in rows],
        [_or_hole(value(row, y)) for row in rows],
    )


def _or_hole(found: float | None) -> float:
    return float("nan") if found is None else found
