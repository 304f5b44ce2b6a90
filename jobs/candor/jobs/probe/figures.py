"""The figures of a probe's page: layer curve, transfer, score distributions, calibration.

Each takes a part of `report.json` as `candor probe train` writes it and returns a plot for the
page's script (`candor.page.plots`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from candor.page import plots
from candor.page.plots import Plot

Entry = Mapping[str, Any]

BINS = 24


def layer_curve(sweep: Sequence[Entry], chosen: Entry) -> Plot:
    """Best AUROC of each layer over all other settings that were tried, and the chosen layer.

    Raises:
        ValueError: no layer has an AUROC.
    """
    series: tuple[tuple[str, str, plots.Look], ...] = (
        ("train_auroc", "train", "null"),
        ("validation_auroc", "validation", "other"),
        ("validation_ranking", "ranking, validation", "now"),
        ("transfer_ranking", "ranking, kind held out (mean)", "held"),
        ("transfer_auroc", "kind held out (mean)", "held"),  # reports from before the rankings
    )
    curves = {field: _best_by_layer(sweep, field) for field, _, _ in series}
    if not any(curves.values()):
        raise ValueError("no layer has an AUROC")
    found = [
        plots.line(label, look, list(best), list(best.values()))
        for field, label, look in series
        if (best := curves[field])
    ]
    return plots.lines(
        {"": found},
        x="layer (index into hidden_states)",
        y="AUROC",
        rules=[{"x": chosen["layer"], "label": "the chosen layer"}, {"y": 0.5, "label": "chance"}],
    )


def _best_by_layer(sweep: Sequence[Entry], field: str) -> dict[int, float]:
    best: dict[int, float] = {}
    for entry in sweep:
        value = entry.get(field)
        if value is not None:
            best[entry["layer"]] = max(value, best.get(entry["layer"], 0.0))
    return dict(sorted(best.items()))


def transfer(kinds: Sequence[Entry], held_out: Sequence[Entry]) -> Plot:
    """AUROC by kind with 95 % intervals: the kind seen in training, and the kind held out."""
    names = [str(entry["kind"]) for entry in kinds if entry["auroc"] is not None]
    series = [
        {"name": label, "look": look, "values": _intervals(entries, names)}
        for label, look, entries in (
            ("kind seen in training", "now", kinds),
            ("kind held out", "held", held_out),
        )
    ]
    return plots.intervals(names, series, x="AUROC on test groups", rule=0.5)


def _intervals(entries: Sequence[Entry], names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "name": entry["kind"],
            "value": entry["auroc"],
            "low": entry["auroc_low"],
            "high": entry["auroc_high"],
        }
        for entry in entries
        if entry["auroc"] is not None and entry["kind"] in names
    ]


def score_distributions(scores: Sequence[Entry]) -> Plot:
    """Histograms of S by label, one panel per kind, on one scale."""
    kinds = list(dict.fromkeys(entry["kind"] for entry in scores))
    values = np.array([entry["score"] for entry in scores], dtype=np.float64)
    low, high = np.percentile(values, [0.5, 99.5])
    edges = np.linspace(low, max(high, low + 1e-6), BINS + 1)

    def counts(kind: str, label: int) -> list[int]:
        own = [e["score"] for e in scores if (e["kind"], e["label"]) == (kind, label)]
        found: list[int] = np.histogram(np.clip(own, edges[0], edges[-1]), edges)[0].tolist()
        return found

    labels: tuple[tuple[int, plots.Look], ...] = ((0, "now"), (1, "base"))
    panels = [
        {
            "title": kind or "(no kind)",
            "series": [
                {"name": f"label {label}", "look": look, "counts": counts(kind, label)}
                for label, look in labels
            ],
        }
        for kind in kinds
    ]
    return plots.histogram(edges.tolist(), panels, x="S (logit; the outermost bars hold the tails)")


def reliability(bins: Sequence[Entry]) -> Plot:
    """Share of responses that have the trait, against the probability that the probe gives."""
    return plots.points(
        [
            {
                "x": entry["mean_probability"],
                "y": entry["share_positive"],
                "weight": entry["num_rows"],
            }
            for entry in bins
            if entry["num_rows"]
        ],
        x="sigmoid(S), mean of bin",
        y="share with label 1",
    )
