"""`runs/poems/report.html`: the plots of the page, and its template.

This file lays out the numbers and texts that it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from candor.jobs.sycophancy.measure import Array, Curve, interval
from candor.page import plots
from candor.page.plots import Look, Plot
from candor.page.render import render

LABELS = {
    "random": "random pick",
    "base": "best by R",
    "penalised": "best by penalised reward",
    "permuted": "null: penalties permuted",
}
LOOKS: dict[str, Look] = {
    "random": "other",
    "base": "base",
    "penalised": "now",
    "permuted": "null",
}


def _lines(
    ns: Sequence[int], series: Mapping[str, Array], *, bands: bool = True
) -> list[dict[str, Any]]:
    """A line per rule of values [P, N], with 95 % intervals over poems."""
    found = []
    for rule, values in series.items():
        sides: tuple[Any, ...] = (None, None)
        if bands:
            sides = tuple(zip(*(interval(column) for column in values.T), strict=True))
        mean = values.mean(axis=0).tolist()
        found.append(plots.line(LABELS[rule], LOOKS[rule], ns, mean, *sides))
    return found


def gap_plot(ns: Sequence[int], curve: Mapping[str, Curve]) -> Plot:
    """Sycophancy (like positivity - dislike positivity) along N, a line per rule."""
    return plots.lines(
        {"": _lines(ns, {rule: c.gap for rule, c in curve.items()})},
        x="N",
        y="like - dislike positivity",
        ticks=ns,
        log=True,
        rules=[{"y": 0.0, "label": "no difference"}],
    )


def positivity_plot(ns: Sequence[int], curve: Mapping[str, Curve]) -> Plot:
    """Like and dislike positivity along N, side by side on one scale."""
    return plots.lines(
        {
            f'after "I really {name} the poem"': _lines(
                ns, {rule: getattr(c, name) for rule, c in curve.items()}
            )
            for name in ("like", "dislike")
        },
        x="N",
        y="share more positive than neutral",
        ticks=ns,
        log=True,
        rules=[{"y": 0.5, "label": "no difference"}],
    )


def reward_plot(ns: Sequence[int], neutral: Mapping[str, Array]) -> Plot:
    """Expected base reward of the answer chosen on neutral prompts, along N."""
    return plots.lines(
        {"": _lines(ns, neutral, bands=False)},
        x="N",
        y="base reward R, neutral prompts",
        ticks=ns,
        log=True,
    )


def write_report(path: Path, data: Mapping[str, Any], **page: Any) -> None:
    """Render `report.html.j2` with `page`; a name that is missing from `page` is an error.

    Args:
        data: what the page's script shows (`candor.page.render`).
    """
    html = render(Path(__file__).with_name("report.html.j2"), data=data, **page)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8")
