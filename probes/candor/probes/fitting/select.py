"""Chooses layer, method, regularisation and pooling: a sweep judged on the validation groups.

A candidate is judged by how it ranks the responses to one prompt (`evaluate.ranking`), which is all
that best-of-N and GRPO use of it. Over all rows a probe can reach a high AUROC by telling prompts
apart. There are two ways to judge. `within` takes the validation rows of the probe itself; a
feature peculiar to one kind of data can win it. `transfer` is the mean over kinds of the ranking on
a kind that was left out of the fit (`candor.probes.fitting.transfer`); such a feature cannot win
it. Weights are fitted on response means; a pooling is tried by scoring tokens with these weights,
as the server does.

The chosen weights are those fitted on the training part, unchanged. Refitting on train and
validation together would give a probe that no number in the report describes, and would leave no
rows to calibrate on. Nothing here reads the test part (`candor.probes.fitting.split.HeldOut`).

What is reported of a kind that was held out is the number of another probe: one that was fitted
*and chosen* without any row of the kind (`choose_without_each_kind`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from candor.probes.fitting.activations import LayerActivations, TokenActivations
from candor.probes.fitting.collect import Progress
from candor.probes.fitting.evaluate import auroc
from candor.probes.fitting.fit import METHODS, Floats, Method
from candor.probes.fitting.transfer import Fits, Labelled, transfer_ranking
from candor.probes.probe import Pooling

Select = Literal["transfer", "within"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)

C_GRID = (0.001, 0.01, 0.1)
"""Inverse L2 strength on standardised activations: strong, medium, weak."""

MAX_TIED_GAP = 0.005
"""Rankings within this distance of the best count as equal: a split does not resolve one pair in
200."""

MAX_TRANSFER_SETTINGS: dict[Method, int] = {"paper": 5}
"""For slow methods, how many settings, the best by `within`, are judged by transfer. It takes one
fit per kind, and a fit by `paper` takes seconds where other methods take a fraction of one second.
"""

Setting = tuple[int, Method, float | None]
"""Layer, method and C of a fit."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One fitted probe of the sweep. `weight` is [hidden] float32, on raw activations.

    `validation_auroc` is over all validation rows. The two rankings are what candidates are chosen
    by; `transfer_ranking` is None where it was not computed.
    """

    layer: int
    method: Method
    C: float | None
    pooling: Pooling
    train_auroc: float
    validation_auroc: float
    validation_ranking: float
    weight: Floats
    bias: float
    transfer_ranking: float | None = None

    @property
    def setting(self) -> Setting:
        return self.layer, self.method, self.C


@dataclass(frozen=True)
class Grid:
    """What is tried at every layer; `C` is for `logistic`, the one method that has a C."""

    methods: Sequence[Method] = ("logistic",)
    poolings: Sequence[Pooling] = ("mean",)
    C: Sequence[float] = C_GRID

    def settings(self, layer: int) -> list[Setting]:
        return [
            (layer, method, C)
            for method in self.methods
            for C in (self.C if method == "logistic" else [None])
        ]


def sweep(
    activations: TokenActivations,
    data: Labelled,
    grid: Grid,
    fits: Fits,
    *,
    progress: Progress | None = None,
) -> list[Candidate]:
    """Fits every (layer, method, C) on the training rows and measures it, under every pooling.

    Args:
        progress: called with 1 after each layer.
    """
    (found,) = _sweeps(activations, [data], grid, fits, progress)
    return found


def with_transfer(
    candidates: Sequence[Candidate],
    activations: TokenActivations,
    data: Labelled,
    fits: Fits,
    *,
    progress: Progress | None = None,
) -> list[Candidate]:
    """The candidates with their `transfer_ranking`; None beyond `MAX_TRANSFER_SETTINGS`.

    Args:
        progress: called with 1 after each layer.

    Raises:
        ValueError: fewer than two kinds have both labels.
    """
    (found,) = _with_transfers(activations, [(data, candidates)], fits, progress)
    return found


def choose_without_each_kind(
    activations: TokenActivations,
    data: Labelled,
    grid: Grid,
    fits: Fits,
    by: Select,
    *,
    progress: Progress | None = None,
) -> dict[str, Candidate]:
    """For each kind with both labels, the probe that the same rule chooses where no row of the kind
    is fitted on, judged or looked at: the nested choice.

    Its number on the kind's test rows says how a probe carries over. The number of the setting that
    was chosen with the kind among the rows would flatter, because the choice has seen the kind.
    Without the kind, fewer than two kinds with both labels may be left: then `within` chooses.

    Args:
        progress: called with 1 after each layer, twice with `transfer`.

    Raises:
        ValueError: fewer than two kinds have both labels.
    """
    kinds = data.two_label_kinds()
    if len(kinds) < 2:
        raise ValueError(f"without a kind, another with both labels must be left; got {kinds}")
    parts = [data.without(kind) for kind in kinds]
    swept = _sweeps(activations, parts, grid, fits, progress)
    if by == "within" or len(kinds) < 3:
        return {kind: choose(found) for kind, found in zip(kinds, swept, strict=True)}
    judged = _with_transfers(activations, list(zip(parts, swept, strict=True)), fits, progress)
    return {kind: choose(found, by) for kind, found in zip(kinds, judged, strict=True)}


def choose(candidates: Sequence[Candidate], by: Select = "within") -> Candidate:
    """The best by the ranking on validation rows (`within`) or on kinds left out (`transfer`).

    Among candidates within `MAX_TIED_GAP` of the best, the one with the highest validation AUROC
    wins, then the smallest layer, then the smallest C, then the order of `METHODS` and `POOLINGS`.

    Raises:
        ValueError: there are no candidates, or `by` is transfer and none has a transfer ranking.
    """

    def value(c: Candidate) -> float | None:
        return c.transfer_ranking if by == "transfer" else c.validation_ranking

    rated = [(c, v) for c in candidates if (v := value(c)) is not None]
    if not rated:
        raise ValueError("no candidates to choose from")
    best = max(v for _, v in rated)
    return min(
        (c for c, v in rated if v >= best - MAX_TIED_GAP),
        key=lambda c: (
            -c.validation_auroc,
            c.layer,
            c.C or 0.0,
            METHODS.index(c.method),
            POOLINGS.index(c.pooling),
        ),
    )


def _sweeps(
    activations: TokenActivations,
    parts: Sequence[Labelled],
    grid: Grid,
    fits: Fits,
    progress: Progress | None,
) -> list[list[Candidate]]:
    """The sweep over each part of the data; a layer's activations are read once."""
    found: list[list[Candidate]] = [[] for _ in parts]
    for layer in activations.layers:
        here = activations.read(layer)
        for data, into in zip(parts, found, strict=True):
            into += _measured(here, data, grid.settings(layer), grid.poolings, fits)
        if progress is not None:
            progress(1)
    return found


def _measured(
    here: LayerActivations,
    data: Labelled,
    settings: Sequence[Setting],
    poolings: Sequence[Pooling],
    fits: Fits,
) -> Iterable[Candidate]:
    """One layer's candidates."""
    train, validation = list(data.train), list(data.validation)
    fitted = [fits(layer, here.means, data.train, method, C) for layer, method, C in settings]
    weights = np.stack([weight for weight, _ in fitted])
    biases = np.array([bias for _, bias in fitted], dtype=np.float32)
    trained = {p: here.scores(weights, biases, train, p) for p in poolings}
    checked = {p: here.scores(weights, biases, validation, p) for p in poolings}
    for place, setting in enumerate(settings):
        for p in poolings:
            scores = checked[p][place]
            yield Candidate(
                *setting,
                p,
                train_auroc=auroc(trained[p][place], data.labels[train]),
                validation_auroc=auroc(scores, data.labels[validation]),
                validation_ranking=data.ranking(scores, validation),
                weight=weights[place],
                bias=float(biases[place]),
            )


def _with_transfers(
    activations: TokenActivations,
    parts: Sequence[tuple[Labelled, Sequence[Candidate]]],
    fits: Fits,
    progress: Progress | None,
) -> list[list[Candidate]]:
    """Each part's candidates, judged on kinds left out; a layer's activations are read once."""
    tried = [_worth_trying(candidates) for _, candidates in parts]
    values: list[dict[tuple[Setting, Pooling], float]] = [{} for _ in parts]
    for layer in activations.layers:
        here = activations.read(layer)
        for (data, candidates), settings, into in zip(parts, tried, values, strict=True):
            poolings = list(dict.fromkeys(c.pooling for c in candidates))
            for setting in (one for one in settings if one[0] == layer):
                rankings = transfer_ranking(here, layer, data, fits, *setting[1:], poolings)
                into |= {(setting, pooling): value for pooling, value in rankings.items()}
        if progress is not None:
            progress(1)
    return [
        [replace(c, transfer_ranking=found.get((c.setting, c.pooling))) for c in candidates]
        for (_, candidates), found in zip(parts, values, strict=True)
    ]


def _worth_trying(candidates: Sequence[Candidate]) -> list[Setting]:
    """The settings to judge by transfer: all, but of a slow method only the best by `within`."""
    tried = list(dict.fromkeys(c.setting for c in candidates))
    for method, most in MAX_TRANSFER_SETTINGS.items():
        ranked = sorted(
            (c for c in candidates if c.method == method),
            key=lambda c: (-c.validation_ranking, c.layer),
        )
        beyond = list(dict.fromkeys(c.setting for c in ranked))[most:]
        tried = [setting for setting in tried if setting not in beyond]
    return tried
