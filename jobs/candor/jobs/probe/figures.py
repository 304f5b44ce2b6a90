"""The figures of a probe's page: layer curve, transfer, score distributions, calibration.

Each takes a part of `report.json` as `candor probe train` writes it and returns an `<svg>`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from candor.jobs.probe.svg import BLUE, GREEN, GREY, ORANGE, svg

Entry = Mapping[str, Any]


def layer_curve(sweep: Sequence[Entry], chosen: Entry) -> Markup:
    """Best AUROC of each layer over all other settings that were tried, and the chosen layer.

    Raises:
        ValueError: no layer has an AUROC.
    """
    figure = Figure(figsize=(6.4, 2.9))
    axis = figure.subplots()
    series = (
        ("train_auroc", "train", GREY),
        ("validation_auroc", "validation", BLUE),
        ("validation_ranking", "ranking, validation", ORANGE),
        ("transfer_ranking", "ranking, kind held out (mean)", GREEN),
        ("transfer_auroc", "kind held out (mean)", GREEN),  # reports from before the rankings
    )
    curves = {field: _best_by_layer(sweep, field) for field, _, _ in series}
    if not any(curves.values()):
        raise ValueError("no layer has an AUROC")
    for field, label, colour in series:
        if best := curves[field]:
            axis.plot(list(best), list(best.values()), color=colour, marker=".", label=label)
    axis.axvline(chosen["layer"], color=ORANGE, linewidth=0.8)
    axis.axhline(0.5, color="black", linewidth=0.6)
    axis.set_xlabel("layer (index into hidden_states)")
    axis.set_ylabel("AUROC")
    axis.set_ylim(top=1.01)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False, loc="best")
    return svg(figure)


def _best_by_layer(sweep: Sequence[Entry], field: str) -> dict[int, float]:
    best: dict[int, float] = {}
    for entry in sweep:
        value = entry.get(field)
        if value is not None:
            best[entry["layer"]] = max(value, best.get(entry["layer"], 0.0))
    return dict(sorted(best.items()))


def transfer(kinds: Sequence[Entry], held_out: Sequence[Entry]) -> Markup:
    """AUROC by kind with 95 % intervals: the kind seen in training, and the kind held out."""
    names = [entry["kind"] for entry in kinds if entry["auroc"] is not None]
    figure = Figure(figsize=(6.4, 0.8 + 0.42 * len(names)))
    axis = figure.subplots()
    for shift, colour, label, entries in (
        (-0.12, BLUE, "kind seen in training", kinds),
        (0.12, GREEN, "kind held out", held_out),
    ):
        found = {entry["kind"]: entry for entry in entries if entry["auroc"] is not None}
        places = [(names.index(kind) + shift, found[kind]) for kind in names if kind in found]
        if not places:
            continue
        axis.errorbar(
            [entry["auroc"] for _, entry in places],
            [place for place, _ in places],
            xerr=[
                [max(0.0, entry["auroc"] - entry["auroc_low"]) for _, entry in places],
                [max(0.0, entry["auroc_high"] - entry["auroc"]) for _, entry in places],
            ],
            fmt="o",
            markersize=4,
            color=colour,
            label=label,
        )
    axis.axvline(0.5, color="black", linewidth=0.6)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlim(right=1.02)
    axis.set_xlabel("AUROC on test groups")
    axis.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return svg(figure)


def score_distributions(scores: Sequence[Entry]) -> Markup:
    """Histograms of S by label, one panel per kind, on one scale."""
    kinds = list(dict.fromkeys(entry["kind"] for entry in scores))
    values = np.array([entry["score"] for entry in scores])
    low, high = np.percentile(values, [0.5, 99.5])
    bins = np.linspace(low, max(high, low + 1e-6), 25)
    rows = -(-len(kinds) // 2)
    figure = Figure(figsize=(6.4, 0.6 + 1.3 * rows))
    panels = figure.subplots(rows, 2, sharex=True, squeeze=False).ravel()
    for panel, kind in zip(panels, kinds, strict=False):
        for label, colour, name in ((0, BLUE, "label 0"), (1, ORANGE, "label 1")):
            of_label = [e["score"] for e in scores if (e["kind"], e["label"]) == (kind, label)]
            if of_label:
                inside = np.clip(of_label, bins[0], bins[-1])
                panel.hist(inside, bins=bins, color=colour, alpha=0.55, label=name)
        panel.set_title(kind or "(no kind)", fontsize=9)
        panel.set_yticks([])
    for panel in panels[len(kinds) :]:
        panel.set_visible(False)
    panels[0].legend(frameon=False, fontsize=8)
    figure.supxlabel("S (logit; outermost bins hold the tails)", fontsize=9)
    figure.tight_layout()
    return svg(figure)


def reliability(bins: Sequence[Entry]) -> Markup:
    """Share of responses that have the trait, against the probability that the probe gives."""
    filled = [entry for entry in bins if entry["num_rows"]]
    figure = Figure(figsize=(3.4, 3.0))
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="black", linewidth=0.6)
    axis.scatter(
        [entry["mean_probability"] for entry in filled],
        [entry["share_positive"] for entry in filled],
        s=[12 + 8 * entry["num_rows"] ** 0.5 for entry in filled],
        color=BLUE,
        alpha=0.8,
    )
    axis.set_xlabel("sigmoid(S), mean of bin")
    axis.set_ylabel("share with label 1")
    axis.set_xlim(-0.03, 1.03)
    axis.set_ylim(-0.03, 1.03)
    return svg(figure)
