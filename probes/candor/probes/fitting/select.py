"""Chooses layer, method, regularisation and pooling: a sweep judged on the validation groups.

There are two ways to judge a candidate. `within` is the validation AUROC of the probe itself; a
feature peculiar to one kind of data can win it. `transfer` is the mean over kinds of the AUROC on a
kind that was left out of the fit (`candor.probes.fitting.transfer`); such a feature cannot win it.
Weights are fitted on response means; a pooling is tried by scoring tokens with these weights, as
the server does.

The chosen weights are those fitted on the training part, unchanged. Refitting on train and
validation together would give a probe that no number in the report describes, and would leave no
rows to calibrate on. Nothing here reads the test part (`candor.probes.fitting.split.HeldOut`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from candor.probes.fitting.activations import TokenActivations
from candor.probes.fitting.collect import Progress
from candor.probes.fitting.evaluate import auroc, pair_accuracy
from candor.probes.fitting.fit import METHODS, Floats, Method, fit
from candor.probes.fitting.transfer import Labelled, fit_without_each_kind, transfer_auroc
from candor.probes.probe import Pooling

Select = Literal["transfer", "within"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)

C_GRID = (0.001, 0.01, 0.1)
"""Inverse L2 strength on standardised activations: strong, medium, weak."""

MAX_TIED_AUROC_GAP = 0.005
"""AUROCs within this distance of the best count as equal: a split does not resolve one pair in 200.
"""

MAX_TRANSFER_SETTINGS: dict[Method, int] = {"paper": 5}
"""For slow methods, how many settings, the best by `within`, get a transfer AUROC. It takes one fit
per kind, and a fit by `paper` takes seconds where other methods take a fraction of one second."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One fitted probe of the sweep. `weight` is [hidden] float32, on raw activations.

    `transfer_auroc` is None where it was not computed.
    """

    layer: int
    method: Method
    C: float | None
    pooling: Pooling
    train_auroc: float
    validation_auroc: float
    validation_pair_accuracy: float | None
    weight: Floats
    bias: float
    transfer_auroc: float | None = None


def sweep(
    activations: TokenActivations,
    data: Labelled,
    *,
    methods: Sequence[Method] = ("logistic",),
    poolings: Sequence[Pooling] = ("mean",),
    grid: Sequence[float] = C_GRID,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Candidate]:
    """Fits every (layer, method, C) on the training rows and measures it, under every pooling.

    Args:
        grid: the values of C to try for `logistic`; the other methods have no C.
        progress: called with 1 after each layer.
    """
    train, validation = list(data.train), list(data.validation)
    groups = [data.groups[row] for row in validation]
    settings = [
        (method, C) for method in methods for C in (grid if method == "logistic" else [None])
    ]
    found = []
    for layer in activations.layers:
        here = activations.read(layer)
        x, y = here.means[train], data.labels[train]
        fitted = [fit(method, x, y, C=C, seed=seed) for method, C in settings]
        weights = np.stack([weight for weight, _ in fitted])
        biases = np.array([bias for _, bias in fitted], dtype=np.float32)
        trained = {p: here.scores(weights, biases, train, p) for p in poolings}
        checked = {p: here.scores(weights, biases, validation, p) for p in poolings}
        for place, (method, C) in enumerate(settings):
            for p in poolings:
                scores = checked[p][place]
                found.append(
                    Candidate(
                        layer,
                        method,
                        C,
                        p,
                        train_auroc=auroc(trained[p][place], y),
                        validation_auroc=auroc(scores, data.labels[validation]),
                        validation_pair_accuracy=pair_accuracy(
                            scores, data.labels[validation], groups
                        ),
                        weight=weights[place],
                        bias=float(biases[place]),
                    )
                )
        if progress is not None:
            progress(1)
    return found


def with_transfer(
    candidates: Sequence[Candidate],
    activations: TokenActivations,
    data: Labelled,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Candidate]:
    """The candidates with their `transfer_auroc`; None for those beyond `MAX_TRANSFER_SETTINGS`.

    Args:
        progress: called with 1 after each layer.

    Raises:
        ValueError: as `fit_without_each_kind`.
    """
    tried = {(c.layer, c.method, c.C) for c in candidates}
    for method, most in MAX_TRANSFER_SETTINGS.items():
        ranked = sorted(
            (c for c in candidates if c.method == method),
            key=lambda c: (-c.validation_auroc, c.layer),
        )
        best = list(dict.fromkeys((c.layer, c.method, c.C) for c in ranked))
        tried -= set(best[most:])
    values = {}
    for layer in activations.layers:
        here = activations.read(layer)
        for setting in (key for key in tried if key[0] == layer):
            probes = fit_without_each_kind(here.means, data, *setting[1:], seed)
            for pooling in {c.pooling for c in candidates}:
                values[setting, pooling] = transfer_auroc(here, data, probes, pooling)
        if progress is not None:
            progress(1)
    return [
        replace(c, transfer_auroc=values.get(((c.layer, c.method, c.C), c.pooling)))
        for c in candidates
    ]


def choose(candidates: Sequence[Candidate], by: Select = "within") -> Candidate:
    """The best by validation AUROC (`within`) or by transfer AUROC.

    Among candidates within `MAX_TIED_AUROC_GAP` of the best, the one with the highest pair accuracy
    wins, then the smallest layer, then the smallest C, then the order of `METHODS` and `POOLINGS`.

    Raises:
        ValueError: there are no candidates, or `by` is transfer and none has a transfer AUROC.
    """

    def value(c: Candidate) -> float | None:
        return c.transfer_auroc if by == "transfer" else c.validation_auroc

    rated = [(c, v) for c in candidates if (v := value(c)) is not None]
    if not rated:
        raise ValueError("no candidates to choose from")
    best = max(v for _, v in rated)
    return min(
        (c for c, v in rated if v >= best - MAX_TIED_AUROC_GAP),
        key=lambda c: (
            -(c.validation_pair_accuracy or 0.0),
            c.layer,
            c.C or 0.0,
            METHODS.index(c.method),
            POOLINGS.index(c.pooling),
        ),
    )
