"""Plots for the pages' script (`script/plots.js`), as plain dicts.

A *look* is a colour with its stroke, the same in every plot: `base` (orange) is what R says, `now`
(blue) what the penalised reward says, `held` (green) a third arm, `other` and `null` (grey, dotted)
what they are compared with. The colours are Okabe and Ito's, which most colour-blind readers tell
apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Look = Literal["base", "now", "held", "other", "null", "fourth"]
Plot = dict[str, Any]


def line(
    name: str,
    look: Look,
    x: Sequence[float],
    y: Sequence[float],
    low: Sequence[float | None] | None = None,
    high: Sequence[float | None] | None = None,
) -> dict[str, Any]:
    """One line of `lines`, with the ends of its intervals; NaN becomes None."""
    sides = {"low": low, "high": high}
    return {
        "name": name,
        "look": look,
        "x": [float(value) for value in x],
        "y": [finite(value) for value in y],
        **{
            side: [finite(value) for value in found]
            for side, found in sides.items()
            if found is not None
        },
    }


def lines(
    panels: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    x: str,
    y: str = "",
    ticks: Sequence[float] | None = None,
    log: bool = False,
    limits: tuple[float, float] | None = None,
    rules: Sequence[Mapping[str, Any]] = (),
    free: bool = False,
) -> Plot:
    """Panels of lines, on one y scale unless `free`.

    Args:
        panels: lines by the panel's title.
        rules: `{"y": value, "label": text}` or with `x`: thin lines across each panel.
    """
    up: dict[str, Any] = {"label": y}
    if limits is not None:
        up |= {"from": limits[0], "to": limits[1]}
    return {
        "kind": "lines",
        "x": {"label": x, "log": log} | ({} if ticks is None else {"ticks": list(ticks)}),
        "y": up,
        "panels": [{"title": title, "lines": list(found)} for title, found in panels.items()],
        "rules": [dict(rule) for rule in rules],
        "free": free,
    }


def intervals(
    names: Sequence[str], series: Sequence[Mapping[str, Any]], *, x: str, rule: float | None = None
) -> Plot:
    """Values with intervals, a row per name.

    Args:
        series: `{"name", "look", "values": [{"name", "value", "low", "high"}]}`.
    """
    return {
        "kind": "intervals",
        "names": list(names),
        "series": [dict(one) for one in series],
        "x": {"label": x},
        **({} if rule is None else {"rule": rule}),
    }


def histogram(edges: Sequence[float], panels: Sequence[Mapping[str, Any]], *, x: str) -> Plot:
    """Counts between `edges`.

    Args:
        panels: `{"title", "series": [{"name", "look", "counts"}]}`.
    """
    return {
        "kind": "histogram",
        "edges": [float(edge) for edge in edges],
        "panels": [dict(panel) for panel in panels],
        "x": {"label": x},
    }


def points(found: Sequence[Mapping[str, float]], *, x: str, y: str) -> Plot:
    """Points `{"x", "y", "weight"}` in the unit square, against the diagonal."""
    return {
        "kind": "points",
        "points": [dict(point) for point in found],
        "x": {"label": x},
        "y": {"label": y},
    }


def finite(value: float | None) -> float | None:
    """A number that JSON has."""
    return None if value is None or not math.isfinite(value) else float(value)
