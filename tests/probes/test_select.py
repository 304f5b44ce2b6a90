"""The sweep finds the layer that was planted, and ties are broken as documented."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from probes.fit import fit_logistic
from probes.select import C_GRID, Candidate, choose, sweep
from tests.probes.made import planted

TRAIN, VALIDATION = range(0, 200), range(200, 300)


def candidate(**fields: Any) -> Candidate:
    defaults: dict[str, Any] = {
        "layer": 5,
        "C": 1.0,
        "train_auroc": 1.0,
        "validation_auroc": 0.9,
        "validation_pair_accuracy": 0.9,
        "weight": np.zeros(2, dtype=np.float32),
        "bias": 0.0,
    }
    return Candidate(**(defaults | fields))


def test_the_layer_with_the_planted_direction_is_chosen() -> None:
    x, y, direction = planted(300, 8, seed=9)
    noise = {layer: planted(300, 8, seed=layer, strength=0.0)[0] for layer in (3, 7)}
    groups = [str(row // 2) for row in range(300)]
    done: list[int] = []
    candidates = sweep({**noise, 5: x}, y, groups, TRAIN, VALIDATION, progress=done.append)
    assert [(c.layer, c.C) for c in candidates] == [(n, C) for n in (3, 5, 7) for C in C_GRID]
    assert done == [1, 1, 1]
    chosen = choose(candidates)
    assert chosen.layer == 5
    assert chosen.validation_auroc > 0.95
    assert float(chosen.weight @ direction) / np.linalg.norm(chosen.weight) > 0.9
    # The control: on the other layers validation AUROC is near chance, whatever training says.
    others = [c for c in candidates if c.layer != 5]
    assert all(abs(c.validation_auroc - 0.5) < 0.2 for c in others)
    assert max(c.train_auroc for c in others) > 0.55


def test_the_weights_are_those_fitted_on_the_training_rows_alone() -> None:
    x, y, _ = planted(300, 8, seed=10)
    (found,) = sweep({0: x}, y, [""] * 300, TRAIN, VALIDATION, grid=[0.03])
    weight, bias = fit_logistic(x[:200], y[:200], 0.03)
    assert np.array_equal(found.weight, weight)
    assert found.bias == bias
    assert not np.array_equal(weight, fit_logistic(x, y, 0.03)[0])


def test_nothing_here_can_be_given_the_test_rows() -> None:
    assert "test" not in {
        *inspect.signature(sweep).parameters,
        *inspect.signature(choose).parameters,
    }
    x, y, _ = planted(400, 8, seed=11)
    spoiled = x.copy()
    spoiled[300:] = np.nan  # rows of neither part: not looked at, so they cannot matter
    groups = [""] * 400
    plain, with_nan = (
        choose(sweep({0: means}, y, groups, TRAIN, VALIDATION)) for means in (x, spoiled)
    )
    assert plain.validation_auroc == with_nan.validation_auroc
    assert np.array_equal(plain.weight, with_nan.weight)


@pytest.mark.parametrize(
    ("rivals", "winner"),
    [
        # Clearly better on validation wins, whatever the pairs say.
        ([{"validation_auroc": 0.92, "validation_pair_accuracy": 0.1}, {}], 0),
        # Within 0.005: the higher pair accuracy.
        ([{"validation_auroc": 0.904}, {"validation_pair_accuracy": 0.95}], 1),
        # Just outside 0.005: not a tie.
        ([{"validation_auroc": 0.906}, {"validation_pair_accuracy": 0.95}], 0),
        # Then the smaller layer, then the smaller C.
        ([{"layer": 6, "C": 0.001}, {"layer": 4}, {}], 1),
        ([{"C": 1.0}, {"C": 0.03}], 1),
        # Data without pairs: the order still stands.
        ([{"validation_pair_accuracy": None}, {"validation_pair_accuracy": None, "layer": 2}], 1),
    ],
)
def test_ties_are_broken_by_pairs_then_layer_then_C(
    rivals: list[dict[str, Any]], winner: int
) -> None:
    candidates = [candidate(**fields) for fields in rivals]
    assert choose(candidates) is candidates[winner]
    assert choose(candidates[::-1]) is candidates[winner]


def test_an_empty_sweep_is_refused() -> None:
    with pytest.raises(ValueError, match="no candidates"):
        choose([])
