"""Does a probe carry over to a kind of data that it never saw? Fit without the kind, score it.

A feature peculiar to one kind (a letter, a word of the prompt) can tell that kind's labels apart,
and is worth nothing on a kind that was left out. Only kinds with both labels can be left out and
measured; the others (genuine agreement has label 0 alone) are in every fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from candor.probes.fitting.activations import LayerActivations
from candor.probes.fitting.evaluate import auroc
from candor.probes.fitting.fit import Floats, Ints, Method, fit
from candor.probes.probe import Pooling


@dataclass(frozen=True, eq=False)
class Labelled:
    """The data that fitting and choosing may read.

    `labels`, `groups` and `kinds` are those of all n rows; `train` and `validation` are row
    indices. The test part is not here (`candor.probes.fitting.split.HeldOut`).
    """

    labels: Ints
    groups: Sequence[str]
    kinds: Sequence[str]
    train: Sequence[int]
    validation: Sequence[int]

    def two_label_kinds(self) -> list[str]:
        """The kinds that have both labels in train and validation taken together, sorted."""
        found: dict[str, set[int]] = {}
        for row in (*self.train, *self.validation):
            found.setdefault(self.kinds[row], set()).add(int(self.labels[row]))
        return sorted(kind for kind, labels in found.items() if len(labels) == 2)


@dataclass(frozen=True, eq=False)
class KindProbes:
    """One probe per kind left out: `weights` [k, hidden] float32, `biases` [k] float32."""

    kinds: tuple[str, ...]
    weights: Floats
    biases: Floats


def fit_without_each_kind(
    means: Floats, data: Labelled, method: Method, C: float | None, seed: int
) -> KindProbes:
    """For each kind with both labels, a probe fitted on the training rows of all other kinds.

    Args:
        means: [n, hidden] float32, one layer's means.
        method, C, seed: as `candor.probes.fitting.fit.fit`.

    Raises:
        ValueError: fewer than two kinds have both labels: nothing would be left to fit on.
    """
    kinds = data.two_label_kinds()
    if len(kinds) < 2:
        raise ValueError(
            f"leaving a kind out needs two kinds with both labels, got {len(kinds)}: {kinds}"
        )
    fitted = []
    for kind in kinds:
        rows = [row for row in data.train if data.kinds[row] != kind]
        fitted.append(fit(method, means[rows], data.labels[rows], C=C, seed=seed))
    weights = np.stack([weight for weight, _ in fitted])
    return KindProbes(tuple(kinds), weights, np.array([b for _, b in fitted], dtype=np.float32))


def transfer_auroc(
    here: LayerActivations, data: Labelled, probes: KindProbes, pooling: Pooling
) -> float:
    """AUROC on each kind's validation rows of the probe fitted without that kind; averaged over the
    kinds."""
    values = []
    for place, kind in enumerate(probes.kinds):
        rows = [row for row in data.validation if data.kinds[row] == kind]
        only = slice(place, place + 1)
        scores = here.scores(probes.weights[only], probes.biases[only], rows, pooling)[0]
        values.append(auroc(scores, data.labels[rows]))
    return float(np.mean(values))
