"""Projected reward models in every engine: R and every S against a plain transformers forward of
each text alone, with hooks of the test's own."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from candor.engines.choose import EngineName, build_engine
from candor.engines.prefix_cache import PrefixCache
from candor.flags import UsageError
from candor.item import Item, Score
from candor.methods import Use
from candor.probes.artifact import LoadedProbe
from candor.scoring.projected import project
from candor.scoring.served import Served, ServedProbe
from tests.service.engines.material import FAMILIES, grouped_items
from tests.service.serving import loaded_probe
from tests.tiny import tiny_llama

PROJECT = Use("project")


def served_probe(name: str, *, seed: int, layer: int, use: Use = PROJECT) -> ServedProbe:
    return ServedProbe(loaded_probe(name, seed=seed, layer=layer), 0.0, use=use)


def served(top: int) -> Served:
    """Two directions of layer 1 and one of the last layer are projected; a monitor reads layer 1,
    and a subtracted probe a later layer."""
    return Served(
        {
            "one": served_probe("one", seed=1, layer=1),
            "two": served_probe("two", seed=2, layer=1),
            "head": served_probe("head", seed=3, layer=top),
            "kept": served_probe("kept", seed=4, layer=top, use=Use()),
            "unseen": replace(served_probe("unseen", seed=5, layer=1, use=Use()), monitor=True),
        }
    )


class ByHand:
    """The model's own forward of one text, edited at layer 1 and after the final norm."""

    def __init__(self, model: Any, probes: Served) -> None:
        self.model, self.probes = copy.deepcopy(model), probes
        self.model.set_attn_implementation("eager")
        self.seen: dict[int, Tensor] = {}
        top = model.config.num_hidden_layers
        inner = self.model.model
        inner.layers[1].register_forward_pre_hook(
            lambda module, args: (self.edit(1, args[0]), *args[1:])
        )
        inner.norm.register_forward_hook(lambda module, args, out: self.edit(top, out))

    def edit(self, layer: int, hidden: Tensor) -> Tensor:
        """The point nearest to the states at which the logits of the layer are 0."""
        self.seen[layer] = hidden.clone()
        projected = [
            probe.loaded.probe
            for probe in self.probes.everything.values()
            if probe.method == "project" and probe.loaded.card.layer == layer
        ]
        w = torch.stack([probe.weight for probe in projected]).double()
        b = torch.tensor([probe.bias for probe in projected]).double()
        wide = hidden.double()
        excess = (wide @ w.T + b) @ torch.linalg.inv(w @ w.T)
        return (wide - excess @ w).float()

    def score(self, item: Item) -> tuple[float, dict[str, float]]:
        """R, and S of every probe."""
        with torch.inference_mode():
            ids = torch.tensor([item.token_ids])
            hidden = self.model.model(input_ids=ids, use_cache=False).last_hidden_state
            reward = self.model.score(hidden[:, -1]).item()
        scores = {}
        for name, probe in self.probes.everything.items():
            own = probe.loaded.probe
            states = self.seen[own.layer][0, item.response_start : item.response_end]
            scores[name] = own.logits(states).mean().item()
        return reward, scores


def assert_as_by_hand(found: Sequence[Score], items: Sequence[Item], by_hand: ByHand) -> None:
    for score, item in zip(found, items, strict=True):
        reward, scores = by_hand.score(item)
        assert score.base_reward == pytest.approx(reward, abs=1e-4)
        assert {name: reading.score for name, reading in score.readings.items()} == pytest.approx(
            scores, abs=1e-4
        )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["packed", "padded"])
def test_both_engines_give_the_numbers_of_the_plain_forward(
    family: Callable[[], Any], name: EngineName
) -> None:
    model = family()
    probes = served(model.config.num_hidden_layers)
    by_hand, plain = ByHand(model, probes), copy.deepcopy(model)
    project(model, probes, "cpu")
    cache = PrefixCache(10**8)
    loaded = list(probes.probes.values())
    engine = build_engine(name, model, loaded, device="cpu", prefix_cache=cache)
    assert engine.name == name  # the check at start agrees with the projected model
    items = [item for item in grouped_items(0, size=4) if item.response_start >= 32]
    for _ in range(2):  # the second time, contexts come from the cache
        assert_as_by_hand(engine.score(items).scores, items, by_hand)
    assert (cache.num_saved_tokens > 0) == (name == "packed")
    # The control: without the projection R is another number.
    other = build_engine("padded", plain, loaded, device="cpu").score(items).scores
    gaps = [
        abs(one.base_reward - by_hand.score(item)[0])
        for one, item in zip(other, items, strict=True)
    ]
    assert statistics.median(gaps) > 0.1


def test_a_server_without_projected_probes_leaves_the_model_alone() -> None:
    model = tiny_llama()
    hooks = [len(module._forward_pre_hooks) for module in model.modules()]
    project(model, Served({"a": served_probe("a", seed=1, layer=1, use=Use())}), "cpu")
    assert [len(module._forward_pre_hooks) for module in model.modules()] == hooks


def test_two_probes_of_one_direction_with_two_biases_are_refused() -> None:
    loaded = loaded_probe("a", seed=1)
    other = LoadedProbe(
        replace(loaded.probe, name="b", bias=3.0), loaded.card.model_copy(update={"name": "b"})
    )
    probes = {"a": ServedProbe(loaded, 0.0, use=PROJECT), "b": ServedProbe(other, 0.0, use=PROJECT)}
    with pytest.raises(UsageError, match=r"--method project: two of the directions are the same"):
        project(tiny_llama(), Served(probes), "cpu")
