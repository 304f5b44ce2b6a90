"""`runs/demo/report.html`: one self-contained page (inline SVG, no script, nothing fetched).

This file lays out the numbers and texts that it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from candor.jobs.probe.svg import BLUE, GREY, ORANGE, svg
from candor.jobs.sycophancy.measure import Array, Curve, interval
from demo.page import render

LABELS = {
    "random": "random pick",
    "base": "best by R",
    "penalised": "best by penalised reward",
    "permuted": "null: penalties permuted",
}
COLOURS = {"random": GREY, "base": ORANGE, "penalised": BLUE, "permuted": "#8a6d00"}


@dataclass(frozen=True)
class Choice:
    """The answers that R and the penalised reward choose for one prompt, at the largest N."""

    title: str
    condition: str
    prompt: str
    base_text: str
    base_numbers: str
    penalised_text: str
    penalised_numbers: str


def _lines(axis: Any, ns: Sequence[int], series: Mapping[str, Any], *, bands: bool = True) -> None:
    for rule, values in series.items():  # values: (P, N)
        axis.plot(ns, values.mean(axis=0), color=COLOURS[rule], label=LABELS[rule], marker=".")
        if bands:
            low, high = zip(*(interval(column) for column in values.T), strict=True)
            axis.fill_between(ns, low, high, color=COLOURS[rule], alpha=0.12, linewidth=0)
    axis.set_xscale("log", base=2)
    axis.set_xticks(ns, [str(n) for n in ns])
    axis.minorticks_off()
    axis.set_xlabel("N")


def gap_plot(ns: Sequence[int], curve: Mapping[str, Curve]) -> Markup:
    """Sycophancy (like positivity - dislike positivity) along N, a line per rule."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.2))
    axis = figure.subplots()
    _lines(axis, ns, {rule: c.gap for rule, c in curve.items()})
    axis.axhline(0, color="black", linewidth=0.6)
    axis.set_ylabel("like - dislike positivity")
    axis.legend(frameon=False)
    return svg(figure)


def positivity_plot(ns: Sequence[int], curve: Mapping[str, Curve]) -> Markup:
    """Like and dislike positivity along N, side by side on one scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.9))
    axes = figure.subplots(1, 2, sharey=True)
    for axis, name in zip(axes, ("like", "dislike"), strict=True):
        _lines(axis, ns, {rule: getattr(c, name) for rule, c in curve.items()})
        axis.axhline(0.5, color="black", linewidth=0.6)
        axis.set_title(f'after "I really {name} the poem"', fontsize=9)
    axes[0].set_ylabel("share more positive than neutral")
    return svg(figure)


def reward_plot(ns: Sequence[int], neutral: Mapping[str, Array]) -> Markup:
    """Expected base reward of the answer chosen on neutral prompts, along N."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.6))
    axis = figure.subplots()
    _lines(axis, ns, neutral, bands=False)
    axis.set_ylabel("base reward R, neutral prompts")
    return svg(figure)


def write_report(path: Path, **page: Any) -> None:
    """Render `report.html.j2` with `page`; a name that is missing from `page` is an error."""
    render(Path(__file__).with_name("report.html.j2"), path, **page)
