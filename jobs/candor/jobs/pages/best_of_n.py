"""The page of `candor bon`: what best-of-N chooses by each rule, above the inspector with the rows
themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from candor.jobs.pages.scored import TEMPLATES, Workbench
from candor.jobs.running.files import replacing
from candor.page import plots
from candor.page.plots import Look, Plot
from candor.page.render import render

RULES: Mapping[str, tuple[str, Look]] = {
    "base_reward": ("by R", "base"),
    "reward": ("by the penalised reward", "now"),
}
Report = Mapping[str, Any]


def write_bon_page(
    out: Path,
    title: str,
    report: Report,
    fall: Mapping[str, Plot],
    found: Workbench,
    made: Mapping[str, str],
) -> None:
    """Write the page.

    Args:
        report: what `candor bon` writes as JSON.
        fall: the plots of its part `reduction`, by their captions.
        made: rows of the table at its end.
    """
    columns = columns_of(report, found)
    drawn = {"curves": curves(report, columns)} | {
        f"fall-{n}": plot for n, plot in enumerate(fall.values())
    }
    html = render(
        TEMPLATES / "bon.html.j2",
        data=found.data | {"plots": drawn},
        page_title=title,
        report=report,
        rules=RULES,
        columns=columns,
        captions=list(fall),
        found=found,
        provenance=made,
    )
    with replacing(out) as file:
        file.write(html.encode("utf-8", "replace"))


def curves(report: Report, columns: Mapping[str, tuple[str, ...]]) -> Plot:
    """R, each S and the reward of the choice along N, a line per rule."""
    return plots.lines(
        {
            title: [_curve(report["chosen_by"][rule], path, *RULES[rule]) for rule in RULES]
            for title, path in columns.items()
        },
        x="N",
        ticks=report["n"],
        log=True,
        free=True,
    )


def columns_of(report: Report, found: Workbench) -> dict[str, tuple[str, ...]]:
    """The figures of a choice, by title: their places in an entry of the report. S is shown of the
    probes that are in the reward, or of all where none is."""
    served = report["chosen_by"]["reward"][0]["scores"]
    readings = found.groups[0]["candidates"][0]["probes"]
    names = [name for name in served if readings[name]["lambda"] > 0] or served
    return {
        "R": ("base_reward",),
        **{f"S of {name}": ("scores", name) for name in names},
        "reward": ("reward",),
    }


def _curve(entries: Sequence[Report], path: Sequence[str], name: str, look: Look) -> dict[str, Any]:
    found = []
    for entry in entries:
        figure: Any = entry
        for part in path:
            figure = figure[part]
        found.append(figure)
    sides = ([figure[side] for figure in found] for side in ("mean", "low", "high"))
    return plots.line(name, look, [entry["n"] for entry in entries], *sides)
