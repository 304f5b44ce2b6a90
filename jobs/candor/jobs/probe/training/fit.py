"""The fit: every setting on the training groups, the choice on the validation groups, the controls
and the test groups once, and the card that says all of it."""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch

from candor.jobs.probe.material import LabelledRows
from candor.jobs.probe.measure import Fitted, measure, score_all
from candor.jobs.probe.reader import RowReader
from candor.jobs.probe.training.options import TrainOptions
from candor.jobs.running.manifest import now, package_versions
from candor.jobs.running.progress import progress
from candor.models.load import RewardModel
from candor.probes.card import Card, DataInfo, ModelIdentity
from candor.probes.fitting.activations import TokenActivations
from candor.probes.fitting.calibrate import calibrate, fit_bound
from candor.probes.fitting.collect import Floats, Sequences
from candor.probes.fitting.data import data_sha256
from candor.probes.fitting.select import (
    Candidate,
    Grid,
    Select,
    choose,
    choose_without_each_kind,
    sweep,
    with_transfer,
)
from candor.probes.fitting.transfer import Fits, Labelled
from candor.probes.probe import Probe
from candor.version import VERSION

TRANSFER_KINDS = 3
"""With this many kinds that have both labels, leaving kinds out is the default way to choose."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A fitted probe and all that was measured on the way.

    Attributes:
        scores: S of every row, [n] float32.
    """

    probe: Probe
    card: Card
    chosen: Candidate
    candidates: list[Candidate]
    report: dict[str, Any]
    scores: Floats


def fit_probe(
    options: TrainOptions,
    rows: LabelledRows,
    reader: RowReader,
    sequences: Sequences,
    activations: TokenActivations,
    by: Select,
) -> Trained:
    """Fits every setting, chooses one, measures it on the test groups and describes it."""
    fits = Fits(rows.labels, options.seed)
    candidates = candidates_of(activations, rows.labelled, options, fits, by)
    chosen = choose(candidates, by)
    without = chosen_without(activations, rows.labelled, options, fits, by)
    here = activations.read(chosen.layer)
    scores = score_all(here, chosen, len(rows.rows))
    fitted = Fitted(chosen, here, scores, without, by, options.seed)
    weight = torch.from_numpy(chosen.weight)
    probe = Probe(options.name, weight, chosen.bias, chosen.layer, chosen.pooling)
    metrics, report = measure(rows, reader, sequences, fitted, probe)
    card = describe(rows, reader.rm, probe, options, fitted, activations.rewards, metrics)
    return Trained(probe, card, chosen, candidates, report, scores)


def selection(data: Labelled, select: Select | None) -> Select:
    """How to choose: `select`, or by default `transfer` where enough kinds have both labels.

    Raises:
        ValueError: `select` is transfer, and there are not two kinds to leave out.
    """
    kinds = data.two_label_kinds()
    if select == "transfer" and len(kinds) < 2:
        raise ValueError(
            f"--select transfer leaves out one kind at a time: it needs two kinds with both "
            f"labels, and the data has {len(kinds)} ({kinds}); use --select within"
        )
    return select or ("transfer" if len(kinds) >= TRANSFER_KINDS else "within")


def candidates_of(
    activations: TokenActivations,
    data: Labelled,
    options: TrainOptions,
    fits: Fits,
    by: Select,
) -> list[Candidate]:
    """Every setting, fitted on the training groups and measured for the choice."""
    grid = Grid(options.methods, options.poolings)
    with progress(len(activations.layers), "fits", "layer") as bar:
        found = sweep(activations, data, grid, fits, progress=bar.update)
    if by == "within":
        return found
    with progress(len(activations.layers), "kinds left out", "layer") as bar:
        return with_transfer(found, activations, data, fits, progress=bar.update)


def chosen_without(
    activations: TokenActivations,
    data: Labelled,
    options: TrainOptions,
    fits: Fits,
    by: Select,
) -> dict[str, tuple[Candidate, Floats]]:
    """By kind, the probe that is fitted and chosen without it, and S of every row under that probe;
    empty where fewer than two kinds have both labels."""
    if len(data.two_label_kinds()) < 2:
        return {}
    grid = Grid(options.methods, options.poolings)
    passes = len(activations.layers) * (2 if by == "transfer" else 1)
    with progress(passes, "choices without a kind", "layer") as bar:
        found = choose_without_each_kind(activations, data, grid, fits, by, progress=bar.update)
    num_rows = len(data.labels)
    return {
        kind: (chosen, score_all(activations.read(chosen.layer), chosen, num_rows))
        for kind, chosen in found.items()
    }


def describe(
    data: LabelledRows,
    rm: RewardModel,
    probe: Probe,
    options: TrainOptions,
    fitted: Fitted,
    rewards: Floats,
    metrics: dict[str, Any],
) -> Card:
    """The card. Bound and calibration come from train and validation rows, never from test rows."""
    rows, scores, sha256 = data.rows, fitted.scores, data_sha256(data.rows)
    train, validation = list(data.labelled.train), list(data.labelled.validation)
    zeros = [index for index in validation if rows[index].label == 0]
    bound = fit_bound(options.bound, scores[[*train, *validation]], scores[zeros])
    return Card(
        name=probe.name,
        trait=options.trait,
        model=ModelIdentity(
            id=rm.id,
            weights_sha256=rm.weights_sha256,
            hidden_size=rm.hidden_size,
            num_layers=rm.num_layers,
        ),
        template_sha256=rm.template_sha256,
        template_date=None if rm.template_date is None else rm.template_date.isoformat(),
        layer=probe.layer,
        pooling=probe.pooling,
        bound=bound,
        calibration=calibrate(
            rewards[validation],
            scores[validation],
            [rows[index].context for index in validation],
            bound=bound,
            source=f"validation split of {sha256}",
        ),
        metrics=metrics,
        data=DataInfo(
            sha256=sha256,
            num_rows=len(rows),
            num_groups=len({row.group for row in rows}),
            kinds=dict(Counter(row.kind for row in rows)),
        ),
        versions={"candor": VERSION, "python": platform.python_version(), **package_versions()},
        created=now(),
    )
