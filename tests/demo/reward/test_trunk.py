"""Adapters learn what the preference pairs prefer, and are merged into the weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from candor.forward.head import head_logits
from candor.models.load import load_reward_model
from demo.poems.pairs import Preference
from demo.reward import trunk
from demo.reward.model import pair_accuracy, pair_activations
from tests.tiny import save_tiny, tiny_llama, tiny_tokenizer

NUM_LAYERS = 3


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    return save_tiny(folder, tiny_llama(NUM_LAYERS), tiny_tokenizer())


def pairs_of(numbers: range, *, louder: bool) -> list[Preference]:
    """Replies to a prompt in two forms; the louder form is chosen or rejected."""
    found = []
    for number in numbers:
        for word in ("red", "blue", "grey"):
            forms = (f"It is {word}!!", f"It is {word}.")
            chosen, rejected = forms if louder else forms[::-1]
            asked = f"Which colour has car {number}?"
            found.append(Preference(f"p{number}", "quality", asked, chosen, rejected, None))
    return found


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "FIRST_LAYER": 1, "LEARNING_RATE": 1e-2, "STEPS": 12, "PROMPTS_PER_STEP": 2, "WARM_UP": 2,
    }.items():  # fmt: skip
        monkeypatch.setattr(trunk, name, value)


def accuracy(model: Path, pairs: list[Preference]) -> float:
    loaded = load_reward_model(str(model), device="cpu", dtype="float32")
    chosen, rejected = pair_activations(loaded, pairs, "pairs")
    with torch.inference_mode():
        margins = head_logits(loaded.model, torch.from_numpy(chosen)) - head_logits(
            loaded.model, torch.from_numpy(rejected)
        )
    return pair_accuracy(margins.numpy())


@pytest.mark.parametrize("louder", [True, False])
def test_the_merged_model_prefers_what_the_pairs_prefer_on_prompts_that_it_did_not_see(
    base: Path, tmp_path: Path, louder: bool
) -> None:
    """Once the one form and once the other: no untrained model is right about both."""
    train = pairs_of(range(24), louder=louder)
    weights = np.ones(len(train), np.float32)
    trunk.fit_adapter(base, tmp_path / "adapter", train, weights, seed=0)
    trunk.merge_adapter(base, tmp_path / "adapter", tmp_path / "model")
    held_out = pairs_of(range(30, 40), louder=louder)
    assert accuracy(tmp_path / "model", held_out) >= 0.9


def test_the_adapter_is_pefts_and_leaves_head_and_lower_layers_alone(
    base: Path, tmp_path: Path
) -> None:
    train = pairs_of(range(24), louder=True)
    trunk.fit_adapter(base, tmp_path / "a", train, np.ones(len(train), np.float32), seed=0)
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == trunk.BASE  # and no path of this machine
    saved = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert len(saved) == 2 * len(trunk.PROJECTIONS) * (NUM_LAYERS - 1)
    assert not any(".layers.0." in name or "score" in name for name in saved)
    trunk.merge_adapter(base, tmp_path / "a", tmp_path / "model")
    before, after = (
        load_file(folder / "model.safetensors") for folder in (base, tmp_path / "model")
    )
    changed = {
        name
        for name in before
        if not torch.equal(before[name].to(torch.bfloat16), after[name].to(torch.bfloat16))
    }
    assert {name.split(".")[2] for name in changed} == {"1", "2"}
    assert {name.split(".")[-2] for name in changed} == set(trunk.PROJECTIONS)
    for name in changed:
        up, down = (
            saved[f"base_model.model.{name.removesuffix('.weight')}.lora_{part}.weight"].double()
            for part in "BA"
        )
        # Exactly, in float64: the probe is bound to these bits on every machine.
        assert torch.equal((before[name].double() + 2 * up @ down).to(torch.bfloat16), after[name])


def test_weights_decide_between_pairs_that_contradict_each_other(
    base: Path, tmp_path: Path
) -> None:
    louder, quieter = pairs_of(range(24), louder=True), pairs_of(range(24), louder=False)
    for heavy in (0, 1):
        weights = np.repeat([1.9, 0.1] if heavy == 0 else [0.1, 1.9], len(louder))
        out = tmp_path / f"{heavy}"
        trunk.fit_adapter(base, out / "a", [*louder, *quieter], weights.astype(np.float32), seed=0)
        trunk.merge_adapter(base, out / "a", out / "model")
        wanted = pairs_of(range(30, 40), louder=heavy == 0)
        assert accuracy(out / "model", wanted) >= 0.9
