"""Plots as inline SVG, for pages that fetch nothing. Presentation only."""

from __future__ import annotations

import io
from typing import Any

import matplotlib
from markupsafe import Markup

matplotlib.use("svg")
# The salt and the absent date make the same figure the same bytes.
matplotlib.rcParams.update(
    {
        "svg.hashsalt": "candor",
        "svg.fonttype": "none",  # text stays text, which a screen reader can read
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)

ORANGE, BLUE, GREEN, GREY = "#d55e00", "#0072b2", "#009e73", "#777777"
"""Okabe and Ito's palette: told apart by most colour-blind readers."""


def svg(figure: Any) -> Markup:
    """A matplotlib figure as an `<svg>` element."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None}, bbox_inches="tight")
    text = out.getvalue()
    return Markup(text[text.index("<svg") :])
