"""A transfer ranking against the fits that leave a kind out, made one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from candor.probes.fitting.evaluate import ranking, within_prompt_auroc
from candor.probes.fitting.fit import fit
from candor.probes.fitting.select import Grid, sweep, with_transfer
from candor.probes.fitting.transfer import Fits
from tests.probes.fitting.cached import cached
from tests.probes.made import KINDS, TRAIN, VALIDATION, labelled, planted, shortcut


def test_a_transfer_ranking_is_the_mean_over_kinds_each_fitted_on_the_train_rows_of_the_others(
    tmp_path: Path,
) -> None:
    layers, data = shortcut()
    activations = cached(tmp_path, layers)
    fits = Fits(data.labels, 0)
    (swept,) = sweep(cached(tmp_path, {2: layers[2]}), data, Grid(["lda"]), fits)
    (found,) = with_transfer([swept], activations, data, fits)
    x, values = layers[2], []
    for kind in KINDS:
        rows = [row for row in TRAIN if data.kinds[row] != kind]
        assert {data.kinds[row] for row in rows} == {*KINDS, "d"} - {kind}
        weight, bias = fit("lda", x[rows], data.labels[rows])
        rows = [row for row in VALIDATION if data.kinds[row] == kind]
        contexts = [data.contexts[row] for row in rows]
        values.append(ranking(x[rows] @ weight + bias, data.labels[rows], contexts))
        assert values[-1] == within_prompt_auroc(
            x[rows] @ weight + bias, data.labels[rows], contexts
        )
    assert found.transfer_ranking == pytest.approx(np.mean(values))


def test_a_kind_cannot_be_left_out_of_one(tmp_path: Path) -> None:
    x, y, _ = planted(300, 4, seed=19)
    activations, data, fits = cached(tmp_path, {0: x}), labelled(y), Fits(y, 0)
    candidates = sweep(activations, data, Grid(["lda"]), fits)
    with pytest.raises(ValueError, match=r"two kinds with both labels, got 1: \[''\]"):
        with_transfer(candidates, activations, data, fits)
