"""Which layer, which regularisation: a sweep judged on the validation groups.

The weights that win are the ones fitted on the training part, as they are: refitting on train and
validation together would ship a probe that no number in the report describes, and would leave
nothing to calibrate on. The test part is not an argument of anything here (`probes.data.HeldOut`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probes.evaluate import auroc, pair_accuracy
from probes.fit import fit_logistic

C_GRID = (0.001, 0.01, 0.1)
"""Inverse L2 strength on standardised activations: strong, medium, weak."""

TIE = 0.005
"""Validation AUROCs this close are taken as equal: one pair in 200, below what a split resolves."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One fitted probe of the sweep. `weight` is [hidden] float32, on raw activations."""

    layer: int
    C: float
    train_auroc: float
    validation_auroc: float
    validation_pair_accuracy: float | None
    weight: NDArray[np.float32]
    bias: float


def sweep(
    means: Mapping[int, NDArray[np.float32]],
    labels: NDArray[np.int64],
    groups: Sequence[str],
    train: Sequence[int],
    validation: Sequence[int],
    *,
    grid: Sequence[float] = C_GRID,
    progress: Callable[[int], object] | None = None,
) -> list[Candidate]:
    """Fits every (layer, C) on `train` and measures it on `validation`.

    Args:
        means: layer -> [n, hidden] float32, as `probes.collect` gives them.
        labels, groups: of all n rows; `train` and `validation` index them.
        progress: called after each layer with 1.
    """
    fit_rows, check_rows = list(train), list(validation)
    candidates = []
    for layer in sorted(means):
        for C in grid:
            weight, bias = fit_logistic(means[layer][fit_rows], labels[fit_rows], C)
            scores = means[layer] @ weight + bias
            checked = scores[check_rows], labels[check_rows]
            pairs = pair_accuracy(*checked, [groups[row] for row in check_rows])
            trained = auroc(scores[fit_rows], labels[fit_rows])
            candidates.append(Candidate(layer, C, trained, auroc(*checked), pairs, weight, bias))
        if progress is not None:
            progress(1)
    return candidates


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The best by validation AUROC.

    Among those within `TIE` of the best: the higher pair accuracy, then the smaller layer, then the
    smaller C.

    Raises:
        ValueError: no candidates.
    """
    if not candidates:
        raise ValueError("no candidates to choose from")
    best = max(candidate.validation_auroc for candidate in candidates)
    tied = [c for c in candidates if c.validation_auroc >= best - TIE]
    return min(tied, key=lambda c: (-(c.validation_pair_accuracy or 0.0), c.layer, c.C))
