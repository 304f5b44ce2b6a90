"""The sweep finds what was planted, transfer avoids a shortcut, ties are broken as documented."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candor.probes.fitting import select
from candor.probes.fitting.fit import METHODS, Method, fit_logistic
from candor.probes.fitting.select import C_GRID, POOLINGS, Candidate, choose, sweep, with_transfer
from tests.probes.fitting.cached import cached
from tests.probes.made import labelled, planted, shortcut


def candidate(**fields: Any) -> Candidate:
    defaults: dict[str, Any] = {
        "layer": 5,
        "method": "logistic",
        "C": 1.0,
        "pooling": "mean",
        "train_auroc": 1.0,
        "validation_auroc": 0.9,
        "validation_pair_accuracy": 0.9,
        "weight": np.zeros(2, dtype=np.float32),
        "bias": 0.0,
    }
    return Candidate(**(defaults | fields))


def test_the_layer_with_the_planted_direction_is_chosen(tmp_path: Path) -> None:
    x, y, direction = planted(300, 8, seed=9)
    noise = {layer: planted(300, 8, seed=layer, strength=0.0)[0] for layer in (3, 7)}
    done: list[int] = []
    activations = cached(tmp_path, {**noise, 5: x})
    candidates = sweep(activations, labelled(y), progress=done.append)
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


def test_every_method_is_swept_and_only_logistic_has_a_C(tmp_path: Path) -> None:
    x, y, _ = planted(300, 4, seed=9)
    candidates = sweep(cached(tmp_path, {0: x}), labelled(y), methods=METHODS)
    assert [(c.method, c.C) for c in candidates] == [
        *(("logistic", C) for C in C_GRID), ("paper", None), ("mass-mean", None), ("lda", None),
    ]  # fmt: skip
    assert all(c.validation_auroc > 0.9 for c in candidates)


def test_the_weights_are_those_fitted_on_the_training_rows_alone(tmp_path: Path) -> None:
    x, y, _ = planted(300, 8, seed=10)
    (found,) = sweep(cached(tmp_path, {0: x}), labelled(y), grid=[0.03])
    weight, bias = fit_logistic(x[:200], y[:200], 0.03)
    assert np.array_equal(found.weight, weight)
    assert found.bias == pytest.approx(bias, rel=1e-6)
    assert not np.array_equal(weight, fit_logistic(x, y, 0.03)[0])


def test_nothing_here_can_be_given_the_test_rows(tmp_path: Path) -> None:
    for function in (sweep, with_transfer, choose):
        assert "test" not in inspect.signature(function).parameters
    x, y, _ = planted(400, 8, seed=11)
    kinds = ["a", "a", "b", "b"] * 100
    spoiled = x.copy()
    spoiled[300:] = np.nan  # rows of neither part: not looked at, so they cannot matter
    found = []
    for name, means in (("plain", x), ("spoiled", spoiled)):
        activations, data = cached(tmp_path / name, {0: means}), labelled(y, kinds)
        swept = sweep(activations, data, poolings=["mean", "max"])
        found.append(choose(with_transfer(swept, activations, data), "transfer"))
    assert found[0].validation_auroc == found[1].validation_auroc
    assert found[0].transfer_auroc == found[1].transfer_auroc
    assert np.array_equal(found[0].weight, found[1].weight)


def test_the_pooling_is_chosen_that_sees_the_trait(tmp_path: Path) -> None:
    """One token in twenty tells the label; the filler's mean varies more than that token adds."""
    rng = np.random.default_rng(17)
    y = np.arange(300) % 2
    filler = rng.normal(scale=0.1, size=(300, 20, 4)) + rng.normal(size=(300, 1, 4))
    filler[:, 7, 0] = 12 * y + rng.normal(size=300)
    activations = cached(tmp_path, {2: list(filler.astype(np.float32))})
    candidates = sweep(activations, labelled(y), poolings=POOLINGS, grid=[0.1])
    by_pooling = {c.pooling: c.validation_auroc for c in candidates}
    assert choose(candidates).pooling in ("max", "topk")
    assert by_pooling["max"] > 0.95 > 0.85 > by_pooling["mean"]
    assert abs(by_pooling["last"] - 0.5) < 0.2
    assert len({c.weight.tobytes() for c in candidates}) == 1  # the same weights, pooled otherwise


@pytest.mark.parametrize("method", METHODS)
def test_transfer_avoids_a_shortcut_of_each_kind_that_within_falls_for(
    tmp_path: Path, method: Method
) -> None:
    layers, data = shortcut()
    activations = cached(tmp_path, layers)
    done: list[int] = []
    swept = sweep(activations, data, methods=[method])
    candidates = with_transfer(swept, activations, data, progress=done.append)
    assert done == [1, 1]
    within, transfer = choose(candidates, "within"), choose(candidates, "transfer")
    assert (within.layer, transfer.layer) == (1, 2)
    assert within.validation_auroc > transfer.validation_auroc
    assert within.transfer_auroc is not None
    assert transfer.transfer_auroc is not None
    assert abs(within.transfer_auroc - 0.5) < 0.2
    assert transfer.transfer_auroc > 0.9


def test_of_the_slow_method_only_the_best_layers_are_tried_for_transfer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(select, "MAX_TRANSFER_SETTINGS", {"lda": 1})
    layers, data = shortcut()
    activations = cached(tmp_path, layers)
    swept = sweep(activations, data, methods=["mass-mean", "lda"], poolings=["mean", "max"])
    tried = {
        (c.method, c.layer, c.pooling)
        for c in with_transfer(swept, activations, data)
        if c.transfer_auroc is not None
    }
    assert tried == {
        *((m, n, p) for m, n in [("mass-mean", 1), ("mass-mean", 2), ("lda", 1)]
          for p in ("mean", "max")),
    }  # fmt: skip


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
        # Then the order of the methods and of the poolings.
        ([{"method": "lda", "C": None}, {"method": "paper", "C": None}], 1),
        ([{"pooling": "max"}, {}], 1),
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


def test_by_transfer_a_candidate_without_that_number_is_no_candidate() -> None:
    candidates = [candidate(validation_auroc=0.99), candidate(transfer_auroc=0.7)]
    assert choose(candidates) is candidates[0]
    assert choose(candidates, "transfer") is candidates[1]
    for none, by in (([], "within"), (candidates[:1], "transfer")):
        with pytest.raises(ValueError, match="no candidates"):
            choose(none, by)  # type: ignore[arg-type]
