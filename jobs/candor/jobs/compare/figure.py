"""A plot of costs against falls as one SVG file that can stand alone.

Written out here, because `candor bon` runs where no plotting library is installed. Colours follow
the reader's light or dark mode. Text is text, and the width follows the page; the labels stay
legible at the width of a phone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b08500", "#777777", "#56b4e9")
"""Okabe and Ito's palette, with its yellow darkened: told apart by most colour-blind readers, and
against white and black."""
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 3", "10 4", "4 4")
WIDTH, PLOT_HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 400, 200, 46, 18, 34, 44
LINE = 20
"""Height of one line of the legend."""


@dataclass(frozen=True)
class Line:
    """One arm: its points (x, y), in the order of its strengths."""

    name: str
    points: Sequence[tuple[float, float]]


def pareto_svg(panels: Mapping[str, Sequence[Line]], x_label: str) -> str:
    """Panels one below the other on the same axes; the same arm has the same colour in each.

    Args:
        panels: lines by the label of the panel's y axis; at least one panel with one point.
    """
    names = list(dict.fromkeys(line.name for lines in panels.values() for line in lines))
    legend = LINE * len(names) + 10
    one = TOP + PLOT_HEIGHT + BOTTOM
    height = legend + one * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="100%" '
        f'style="max-width:{WIDTH * 2}px" role="img">',
        "<style>text{font:13px system-ui,sans-serif;fill:#222}.axis{stroke:#777}"
        ".grid{stroke:#7774}.page{fill:#fff}@media(prefers-color-scheme:dark)"
        "{text{fill:#eee}.page{fill:#16181c}}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
    ]
    for place, name in enumerate(names):
        y = 18 + LINE * place
        parts.append(_stroke(names, name, f"{LEFT},{y - 4} {LEFT + 34},{y - 4}"))
        parts.append(f'<text x="{LEFT + 42}" y="{y}">{escape(name)}</text>')
    points = [point for lines in panels.values() for line in lines for point in line.points]
    across, up = _ticks([x for x, _ in points]), _ticks([y for _, y in points])
    for place, (label, lines) in enumerate(panels.items()):
        parts += _panel(label, lines, names, x_label, (across, up), legend + one * place + TOP)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(
    label: str,
    lines: Sequence[Line],
    names: Sequence[str],
    x_label: str,
    ticks: tuple[Sequence[float], Sequence[float]],
    top: float,
) -> list[str]:
    across, up = ticks
    right, bottom = WIDTH - RIGHT, top + PLOT_HEIGHT

    def x_of(x: float) -> float:
        return LEFT + (x - across[0]) / (across[-1] - across[0]) * (right - LEFT)

    def y_of(y: float) -> float:
        return bottom - (y - up[0]) / (up[-1] - up[0]) * PLOT_HEIGHT

    found = [f'<text x="{LEFT}" y="{top - 10}">{escape(label)}</text>']
    for y in up:
        found += [
            f'<path class="grid" d="M{LEFT} {y_of(y):.1f}H{right}"/>',
            f'<text x="{LEFT - 6}" y="{y_of(y) + 4:.1f}" text-anchor="end">{y:.4g}</text>',
        ]
    found += [
        f'<text x="{x_of(x):.1f}" y="{bottom + 17}" text-anchor="middle">{x:.4g}</text>'
        for x in across
    ]
    found += [
        f'<path class="axis" fill="none" d="M{LEFT} {top}V{bottom}H{right}"/>',
        f'<text x="{(LEFT + right) / 2}" y="{bottom + 36}" text-anchor="middle">'
        f"{escape(x_label)}</text>",
    ]
    for line in lines:
        places = [(x_of(x), y_of(y)) for x, y in line.points]
        found.append(_stroke(names, line.name, " ".join(f"{x:.1f},{y:.1f}" for x, y in places)))
        colour = COLOURS[names.index(line.name) % len(COLOURS)]
        found += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    return found


def _stroke(names: Sequence[str], name: str, points: str) -> str:
    place = names.index(name)
    return (
        f'<polyline points="{points}" fill="none" stroke-width="2.5" '
        f'stroke="{COLOURS[place % len(COLOURS)]}" '
        f'stroke-dasharray="{DASHES[place % len(DASHES)]}"/>'
    )


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers from below the least value to above the greatest, at most seven."""
    low, high = min(values), max(values)
    span = high - low or 1.0
    size = 10.0 ** math.floor(math.log10(span))
    step = next(
        one
        for one in (size / 10 * factor for factor in (1, 2, 5, 10, 20, 50))
        if math.ceil(high / one) - math.floor(low / one) <= 6
    )
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    # Adding 0.0 makes 0 of -0.
    return [round(place * step, 12) + 0.0 for place in range(first, max(last, first + 1) + 1)]
