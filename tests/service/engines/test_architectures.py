"""Every architecture of docs/models.md: R and S are those of transformers' own forward of each text
alone, in a fresh model, at every layer; alone, in company, after a cache hit and after other texts.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as HEADED,
)

from candor.engines.choose import build_engine
from candor.engines.padded import PaddedEngine
from candor.engines.prefix_cache import PrefixCache
from candor.item import Item, Score
from candor.models.checkpoint import ModelRefused
from candor.models.load import load_reward_model
from candor.probes.fitting.collect import read_responses
from candor.probes.probe import Probe
from tests.architectures import CONFIGS, VARIANTS, Fresh, items, save_architecture
from tests.paths import ROOT

TOLERANCE = 1e-4
DOCUMENT = ROOT / "docs" / "models.md"

# transformers' own, in the modules of some architectures.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")

EVERY = {name: (name, config) for name, config in CONFIGS.items()} | VARIANTS


def probes(num_layers: int) -> list[Probe]:
    generator = torch.Generator().manual_seed(5)
    return [
        Probe(f"p{layer}", torch.randn(32, generator=generator) / 32, 0.1, layer, "mean")
        for layer in range(num_layers + 1)
    ]


@cache
def documented() -> dict[str, str]:
    """Model type -> engine of the first table of docs/models.md."""
    rows = re.findall(r"^\| `([\w-]+)` \| (packed|padded)[^|]* \|", DOCUMENT.read_text(), re.M)
    return dict(rows)


@pytest.mark.parametrize("name", EVERY)
def test_r_and_s_are_those_of_transformers_for_each_text_alone(tmp_path: Path, name: str) -> None:
    model_type, config = EVERY[name]
    folder = save_architecture(tmp_path / "rm", model_type, config)
    texts = items()
    fresh = Fresh(folder)
    own = [fresh.alone(item) for item in texts]
    rewards = [reward for reward, _ in own]
    assert max(rewards) - min(rewards) > 100 * TOLERANCE

    loaded = load_reward_model(str(folder), device="cpu", dtype="float32")
    reading = probes(loaded.num_layers)
    assert loaded.num_layers + 1 == len(own[0][1])
    cache_ = PrefixCache(10**8)
    engine = build_engine("packed", loaded.model, reading, device="cpu", prefix_cache=cache_)
    if name in documented():
        assert engine.name == documented()[name], engine.reason

    expected = [expected_score(item, *one, reading) for item, one in zip(texts, own, strict=True)]
    for order in (range(len(texts)), [*range(len(texts))][::-1], [*range(len(texts))]):
        found = engine.score([texts[number] for number in order]).scores
        assert_close(found, [expected[number] for number in order])
    for item, one in zip(texts, expected, strict=True):
        assert_close(engine.score([item]).scores, [one])
    if engine.name == "packed" and not engine.company.changes_model:
        assert cache_.num_hits > 0
    assert [*engine.costs(texts)][-1] >= engine.score(texts).num_computed_tokens

    rows = [(item.token_ids, item.response_start, item.response_end) for item in texts]
    packed = engine.name == "packed"
    fitted = read_responses(
        loaded.model, rows, [], lambda *_: None, packed=packed, company=engine.company
    )
    assert fitted.tolist() == pytest.approx(rewards, abs=TOLERANCE)


def expected_score(
    item: Item, reward: float, hidden: tuple[torch.Tensor, ...], reading: list[Probe]
) -> tuple[float, list[float]]:
    span = slice(item.response_start, item.response_end)
    return reward, [
        probe.pool(hidden[probe.layer][span] @ probe.weight + probe.bias) for probe in reading
    ]


def assert_close(found: Any, expected: list[tuple[float, list[float]]]) -> None:
    for score, (reward, readings) in zip(found, expected, strict=True):
        assert isinstance(score, Score)
        assert score.base_reward == pytest.approx(reward, abs=TOLERANCE)
        got = [reading.score for reading in score.readings.values()]
        assert got == pytest.approx(readings, abs=TOLERANCE)


def test_the_page_lists_every_architecture_that_transformers_gives_a_reward_head() -> None:
    page = DOCUMENT.read_text()
    refused = page.split("## Refused")[1]
    assert set(documented()) == set(CONFIGS)
    assert len(CONFIGS) >= 40
    assert set(re.findall(r"`([\w-]+)`", refused)) >= set(HEADED) - set(CONFIGS)
    assert not set(re.findall(r"^\| `([\w-]+)`", refused, re.M)) & set(CONFIGS)


@pytest.mark.parametrize("name", sorted(set(HEADED) - set(CONFIGS)))
def test_every_other_architecture_is_refused_by_name(tmp_path: Path, name: str) -> None:
    try:
        CONFIG_MAPPING[name]().save_pretrained(tmp_path)
    except ImportError:
        pytest.skip("its configuration needs another package")
    save_file({"classifier.weight": torch.zeros(1, 4)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelRefused) as caught:
        load_reward_model(str(tmp_path), device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    assert re.search(r"docs/models.md|transformers cannot build", message), message


def test_control_texts_of_both_sides_of_a_boundary_must_not_share_a_forward(tmp_path: Path) -> None:
    """The engine without its rule is wrong on the same texts, for each kind of boundary."""
    for name in ("phi3", "llama, dynamic", "doge"):
        model_type, config = EVERY[name]
        folder = save_architecture(tmp_path / name, model_type, config)
        texts = items()
        fresh = Fresh(folder)
        rewards = [fresh.alone(item)[0] for item in texts]
        engine = PaddedEngine(load_reward_model(str(folder), device="cpu").model, [], device="cpu")
        engine.company._rotaries.clear()
        engine.company._sides.clear()
        engine.company._dynamic_from = None
        found = [score.base_reward for score in engine.score(texts).scores]
        gaps = [abs(a - b) for a, b in zip(found, rewards, strict=True)]
        assert max(gaps) > 100 * TOLERANCE, name
