"""The plot: well-formed, every point where it belongs, every arm named, text that can be read."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from candor.jobs.compare.figure import COLOURS, Line, _ticks, pareto_svg

SVG = "{http://www.w3.org/2000/svg}"
LINES = [Line("penalty", [(0.0, 1.0), (0.4, 0.8)]), Line("a < b & c", [(0.0, 1.0), (0.2, 0.1)])]


def test_points_lie_in_proportion_and_arms_keep_their_colour() -> None:
    root = ElementTree.fromstring(pareto_svg({"kept": LINES, "truth": LINES[:1]}, "fall"))
    circles = [
        (circle.get("fill"), float(circle.get("cx", "")), float(circle.get("cy", "")))
        for circle in root.iter(f"{SVG}circle")
    ]
    (_, x0, y0), (_, x1, y1), (_, _, _), (_, x3, y3) = circles[:4]
    assert [colour for colour, _, _ in circles] == [COLOURS[place] for place in (0, 0, 1, 1, 0, 0)]
    assert (x3 - x0) / (x1 - x0) == pytest.approx(0.2 / 0.4, abs=0.01)
    assert (y3 - y0) / (y1 - y0) == pytest.approx(0.9 / 0.2, abs=0.01)
    assert y3 > y1 > y0  # lower values lie lower


def test_every_label_is_text_and_escaped() -> None:
    svg = pareto_svg({"kept, none": LINES}, "fall of x > 1")
    texts = [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert {"penalty", "a < b & c", "kept, none", "fall of x > 1"} <= set(texts)


def test_it_scales_with_the_page_and_has_colours_for_the_dark() -> None:
    svg = pareto_svg({"kept": LINES}, "fall")
    root = ElementTree.fromstring(svg)
    assert root.get("width") == "100%"
    *_, width, height = map(float, (root.get("viewBox") or "").split())
    assert width <= 420  # at the width of a phone, text of 13 units stays about 12 pixels high
    assert re.search(r"font:13px", svg)
    assert "prefers-color-scheme:dark" in svg
    inside = [float(one.get("cy", "")) for one in root.iter(f"{SVG}circle")]
    assert 0 < min(inside) <= max(inside) < height


def test_a_single_point_and_equal_values_are_drawn() -> None:
    svg = pareto_svg({"kept": [Line("penalty", [(0.0, 1.0)])]}, "fall")
    assert "nan" not in svg
    assert len(list(ElementTree.fromstring(svg).iter(f"{SVG}circle"))) == 1


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.0, 0.7], [0, 0.2, 0.4, 0.6, 0.8]),
        ([-0.03, 0.04], [-0.04, -0.02, 0, 0.02, 0.04]),
        ([0.97, 1.0], [0.97, 0.975, 0.98, 0.985, 0.99, 0.995, 1.0]),
        ([2.0, 2.0], [2.0, 2.1]),
    ],
)
def test_ticks_are_round_and_hold_the_values(values: list[float], ticks: list[float]) -> None:
    found = _ticks(values)
    assert found[0] <= min(values) <= max(values) <= found[-1]
    assert found == pytest.approx(ticks)
