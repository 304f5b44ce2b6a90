"""The sweep finds what was planted, transfer avoids a shortcut, ties are broken as documented."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candor.probes.fitting import select, transfer
from candor.probes.fitting.fit import METHODS, Method, fit, fit_logistic
from candor.probes.fitting.select import (
    C_GRID,
    POOLINGS,
    Candidate,
    Grid,
    Select,
    choose,
    choose_without_each_kind,
    sweep,
    with_transfer,
)
from candor.probes.fitting.transfer import Fits, Labelled
from tests.probes.fitting.cached import cached
from tests.probes.made import KINDS, labelled, planted, shortcut


def candidate(**fields: Any) -> Candidate:
    defaults: dict[str, Any] = {
        "layer": 5,
        "method": "logistic",
        "C": 1.0,
        "pooling": "mean",
        "train_auroc": 1.0,
        "validation_auroc": 0.9,
        "validation_ranking": 0.9,
        "weight": np.zeros(2, dtype=np.float32),
        "bias": 0.0,
    }
    return Candidate(**(defaults | fields))


def test_the_layer_with_the_planted_direction_is_chosen(tmp_path: Path) -> None:
    x, y, direction = planted(300, 8, seed=9)
    noise = {layer: planted(300, 8, seed=layer, strength=0.0)[0] for layer in (3, 7)}
    done: list[int] = []
    activations = cached(tmp_path, {**noise, 5: x})
    candidates = sweep(activations, labelled(y), Grid(), Fits(y, 0), progress=done.append)
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
    candidates = sweep(cached(tmp_path, {0: x}), labelled(y), Grid(METHODS), Fits(y, 0))
    assert [(c.method, c.C) for c in candidates] == [
        *(("logistic", C) for C in C_GRID), ("paper", None), ("mass-mean", None), ("lda", None),
    ]  # fmt: skip
    assert all(c.validation_auroc > 0.9 for c in candidates)


def test_the_weights_are_those_fitted_on_the_training_rows_alone(tmp_path: Path) -> None:
    x, y, _ = planted(300, 8, seed=10)
    (found,) = sweep(cached(tmp_path, {0: x}), labelled(y), Grid(C=[0.03]), Fits(y, 0))
    weight, bias = fit_logistic(x[:200], y[:200], 0.03)
    assert np.array_equal(found.weight, weight)
    assert found.bias == pytest.approx(bias, rel=1e-6)
    assert not np.array_equal(weight, fit_logistic(x, y, 0.03)[0])


def test_nothing_here_can_be_given_the_test_rows(tmp_path: Path) -> None:
    for function in (sweep, with_transfer, choose, choose_without_each_kind):
        assert "test" not in inspect.signature(function).parameters
    x, y, _ = planted(400, 8, seed=11)
    kinds = ["a", "a", "b", "b"] * 100
    spoiled = x.copy()
    spoiled[300:] = np.nan  # rows of neither part: not looked at, so they cannot matter
    found = []
    for name, means in (("plain", x), ("spoiled", spoiled)):
        activations, data = cached(tmp_path / name, {0: means}), labelled(y, kinds)
        fits, grid = Fits(y, 0), Grid(poolings=["mean", "max"])
        swept = sweep(activations, data, grid, fits)
        found.append(choose(with_transfer(swept, activations, data, fits), "transfer"))
    assert found[0].validation_auroc == found[1].validation_auroc
    assert found[0].transfer_ranking == found[1].transfer_ranking
    assert np.array_equal(found[0].weight, found[1].weight)


def test_the_pooling_is_chosen_that_sees_the_trait(tmp_path: Path) -> None:
    """One token in twenty tells the label; the filler's mean varies more than that token adds."""
    rng = np.random.default_rng(17)
    y = np.arange(300) % 2
    filler = rng.normal(scale=0.1, size=(300, 20, 4)) + rng.normal(size=(300, 1, 4))
    filler[:, 7, 0] = 12 * y + rng.normal(size=300)
    activations = cached(tmp_path, {2: list(filler.astype(np.float32))})
    candidates = sweep(activations, labelled(y), Grid(poolings=POOLINGS, C=[0.1]), Fits(y, 0))
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
    fits = Fits(data.labels, 0)
    swept = sweep(activations, data, Grid([method]), fits)
    candidates = with_transfer(swept, activations, data, fits, progress=done.append)
    assert done == [1, 1]
    within, transfer = choose(candidates, "within"), choose(candidates, "transfer")
    assert (within.layer, transfer.layer) == (1, 2)
    assert within.validation_auroc > transfer.validation_auroc
    assert within.transfer_ranking is not None
    assert transfer.transfer_ranking is not None
    assert abs(within.transfer_ranking - 0.5) < 0.2
    assert transfer.transfer_ranking > 0.9


def test_of_the_slow_method_only_the_best_layers_are_tried_for_transfer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(select, "MAX_TRANSFER_SETTINGS", {"lda": 1})
    layers, data = shortcut()
    activations = cached(tmp_path, layers)
    fits, grid = Fits(data.labels, 0), Grid(["mass-mean", "lda"], ["mean", "max"])
    swept = sweep(activations, data, grid, fits)
    tried = {
        (c.method, c.layer, c.pooling)
        for c in with_transfer(swept, activations, data, fits)
        if c.transfer_ranking is not None
    }
    assert tried == {
        *((m, n, p) for m, n in [("mass-mean", 1), ("mass-mean", 2), ("lda", 1)]
          for p in ("mean", "max")),
    }  # fmt: skip


def test_the_probe_is_chosen_that_ranks_within_a_prompt_and_not_the_one_that_tells_prompts_apart(
    tmp_path: Path,
) -> None:
    """Layer 1 knows which prompts mostly have label 1; layer 2 knows, weakly, which response."""
    rng = np.random.default_rng(23)
    labels, contexts, prompt_has = [], [], []
    for prompt in range(75):
        mostly = prompt % 2
        labels += [mostly, mostly, mostly, 1 - mostly]
        contexts += [str(prompt)] * 4
        prompt_has += [mostly] * 4
    y = np.array(labels)
    of_prompt, of_response = rng.normal(size=(2, 300, 4))
    of_prompt[:, 0] += 6 * np.array(prompt_has)
    of_response[:, 0] += 0.8 * y
    activations = cached(
        tmp_path, {1: of_prompt.astype(np.float32), 2: of_response.astype(np.float32)}
    )
    data = Labelled(y, contexts, [""] * 300, contexts, range(200), range(200, 300))
    candidates = sweep(activations, data, Grid(C=[0.1]), Fits(y, 0))
    aurocs = {c.layer: c.validation_auroc for c in candidates}
    rankings = {c.layer: c.validation_ranking for c in candidates}
    assert aurocs[1] > aurocs[2]  # by the AUROC of all rows, layer 1 would be chosen
    assert abs(rankings[1] - 0.5) < 0.15 < rankings[2] - 0.5
    assert choose(candidates).layer == 2


@pytest.mark.parametrize("by", ["within", "transfer"])
def test_the_choice_without_a_kind_is_that_of_the_data_without_it(
    tmp_path: Path, by: Select
) -> None:
    layers, data = shortcut()
    activations, grid, done = cached(tmp_path, layers), Grid(["lda", "mass-mean"]), []
    found = choose_without_each_kind(
        activations, data, grid, Fits(data.labels, 0), by, progress=done.append
    )
    assert list(found) == KINDS
    assert done == [1] * (4 if by == "transfer" else 2)
    for kind, nested in found.items():
        part, fits = data.without(kind), Fits(data.labels, 0)
        alone = sweep(activations, part, grid, fits)
        if by == "transfer":
            alone = with_transfer(alone, activations, part, fits)
        expected = choose(alone, by)
        assert nested.setting == expected.setting
        assert np.array_equal(nested.weight, expected.weight)
        rows = [row for row in data.train if data.kinds[row] != kind]
        x = layers[nested.layer]
        assert np.array_equal(nested.weight, fit(nested.method, x[rows], data.labels[rows])[0])


def test_no_row_of_a_kind_decides_the_choice_without_it(tmp_path: Path) -> None:
    """Every row of kind `a` is spoilt; the choice without `a` stays, and the others' do not."""
    layers, data = shortcut()
    rows = [row for row in (*data.train, *data.validation) if data.kinds[row] == "a"]
    labels = data.labels.copy()
    labels[rows] = 1 - labels[rows]
    spoilt = {n: x.copy() for n, x in layers.items()}
    for x in spoilt.values():
        x[rows] = x[rows[::-1]] + 1
    turned = replace(data, labels=labels)
    choices = [
        choose_without_each_kind(cached(tmp_path / str(n), x), given, Grid(), Fits(given.labels, 0),
                                 "transfer")
        for n, (x, given) in enumerate(((layers, data), (spoilt, turned)))
    ]  # fmt: skip
    assert choices[0]["a"].setting == choices[1]["a"].setting
    assert np.array_equal(choices[0]["a"].weight, choices[1]["a"].weight)
    assert choices[0]["a"].transfer_ranking == choices[1]["a"].transfer_ranking
    assert not np.array_equal(choices[0]["b"].weight, choices[1]["b"].weight)  # the control


def test_with_two_kinds_what_is_left_is_chosen_within_and_with_one_nothing_is(
    tmp_path: Path,
) -> None:
    x, y, _ = planted(300, 4, seed=19)
    activations = cached(tmp_path, {0: x})
    two = labelled(y, ["a", "a", "b", "b"] * 75)
    found = choose_without_each_kind(activations, two, Grid(), Fits(y, 0), "transfer")
    assert {kind: c.transfer_ranking for kind, c in found.items()} == {"a": None, "b": None}
    with pytest.raises(ValueError, match="another with both labels must be left"):
        choose_without_each_kind(activations, labelled(y), Grid(), Fits(y, 0), "within")


def test_a_fit_that_was_made_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, _ = planted(300, 4, seed=19)
    calls: list[Any] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return fit(*args, **kwargs)

    monkeypatch.setattr(transfer, "fit", counted)
    fits = Fits(y, 0)
    for rows in (range(100), list(range(100)), range(99)):
        fits(3, x, rows, "lda", None)
    assert np.array_equal(fits(3, x, range(100), "lda", None)[0], fit("lda", x[:100], y[:100])[0])
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("rivals", "winner"),
    [
        # Clearly better within prompts wins, whatever the AUROC of all rows says.
        ([{"validation_ranking": 0.92, "validation_auroc": 0.1}, {}], 0),
        # Within 0.005: the higher AUROC.
        ([{"validation_ranking": 0.904}, {"validation_auroc": 0.95}], 1),
        # Just outside 0.005: not a tie.
        ([{"validation_ranking": 0.906}, {"validation_auroc": 0.95}], 0),
        # Then the smaller layer, then the smaller C.
        ([{"layer": 6, "C": 0.001}, {"layer": 4}, {}], 1),
        ([{"C": 1.0}, {"C": 0.03}], 1),
        # Then the order of the methods and of the poolings.
        ([{"method": "lda", "C": None}, {"method": "paper", "C": None}], 1),
        ([{"pooling": "max"}, {}], 1),
    ],
)
def test_ties_are_broken_by_auroc_then_layer_then_C(
    rivals: list[dict[str, Any]], winner: int
) -> None:
    candidates = [candidate(**fields) for fields in rivals]
    assert choose(candidates) is candidates[winner]
    assert choose(candidates[::-1]) is candidates[winner]


def test_by_transfer_a_candidate_without_that_number_is_no_candidate() -> None:
    candidates = [candidate(validation_ranking=0.99), candidate(transfer_ranking=0.7)]
    assert choose(candidates) is candidates[0]
    assert choose(candidates, "transfer") is candidates[1]
    for none, by in (([], "within"), (candidates[:1], "transfer")):
        with pytest.raises(ValueError, match="no candidates"):
            choose(none, by)  # type: ignore[arg-type]
