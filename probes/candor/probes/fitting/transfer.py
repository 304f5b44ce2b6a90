"""Does a probe carry over to a kind of data that it never saw? Fit without the kind, score it.

A feature peculiar to one kind (a letter, a word of the prompt) can tell that kind's labels apart,
and is worth nothing on a kind that was left out. Only kinds with both labels can be left out and
measured; the others (genuine agreement has label 0 alone) are in every fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from candor.probes.fitting.activations import LayerActivations
from candor.probes.fitting.evaluate import ranking
from candor.probes.fitting.fit import Fitted, Floats, Ints, Method, fit
from candor.probes.probe import Pooling


@dataclass(frozen=True, eq=False)
class Labelled:
    """The data that fitting and choosing may read.

    `labels`, `groups`, `kinds` and `contexts` are those of all n rows; `train` and `validation` are
    row indices. The test part is not here (`candor.probes.fitting.split.HeldOut`).
    """

    labels: Ints
    groups: Sequence[str]
    kinds: Sequence[str]
    contexts: Sequence[str]
    train: Sequence[int]
    validation: Sequence[int]

    def two_label_kinds(self) -> list[str]:
        """The kinds that have both labels in train and validation taken together, sorted."""
        found: dict[str, set[int]] = {}
        for row in (*self.train, *self.validation):
            found.setdefault(self.kinds[row], set()).add(int(self.labels[row]))
        return sorted(kind for kind, labels in found.items() if len(labels) == 2)

    def without(self, kind: str) -> Labelled:
        """The same data without the rows of a kind."""
        train, validation = (
            tuple(row for row in part if self.kinds[row] != kind)
            for part in (self.train, self.validation)
        )
        return replace(self, train=train, validation=validation)

    def ranking(self, scores: Floats, rows: Sequence[int]) -> float:
        """`candor.probes.fitting.evaluate.ranking` of these rows' scores."""
        return ranking(scores, self.labels[list(rows)], [self.contexts[row] for row in rows])


class Fits:
    """Fits of probes, each made once: choosing and leaving kinds out ask for the same ones.

    Args:
        labels: of all n rows.
        seed: as `candor.probes.fitting.fit.fit`.
    """

    def __init__(self, labels: Ints, seed: int) -> None:
        self._labels, self._seed = labels, seed
        self._made: dict[tuple[int, Method, float | None, tuple[int, ...]], Fitted] = {}

    def __call__(
        self, layer: int, means: Floats, rows: Sequence[int], method: Method, C: float | None
    ) -> Fitted:
        """The probe fitted on these rows of one layer's `means`, [n, hidden] float32."""
        key = (layer, method, C, tuple(rows))
        if key not in self._made:
            at = list(rows)
            self._made[key] = fit(method, means[at], self._labels[at], C=C, seed=self._seed)
        return self._made[key]


def transfer_ranking(
    here: LayerActivations,
    layer: int,
    data: Labelled,
    fits: Fits,
    method: Method,
    C: float | None,
    poolings: Sequence[Pooling],
) -> dict[Pooling, float]:
    """`ranking` on each kind's validation rows of the probe that was fitted without that kind;
    averaged over the kinds with both labels.

    Raises:
        ValueError: fewer than two kinds have both labels: nothing would be left to fit on.
    """
    kinds = data.two_label_kinds()
    if len(kinds) < 2:
        raise ValueError(
            f"leaving a kind out needs two kinds with both labels, got {len(kinds)}: {kinds}"
        )
    values: dict[Pooling, list[float]] = {pooling: [] for pooling in poolings}
    for kind in kinds:
        weight, bias = fits(layer, here.means, data.without(kind).train, method, C)
        rows = [row for row in data.validation if data.kinds[row] == kind]
        for pooling, found in values.items():
            scores = here.scores(weight[None], np.array([bias], dtype=np.float32), rows, pooling)
            found.append(data.ranking(scores[0], rows))
    return {pooling: float(np.mean(found)) for pooling, found in values.items()}
