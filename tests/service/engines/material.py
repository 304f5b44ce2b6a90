"""Tiny models, items and probes that the engines' tests share, and how scores are compared."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence

import pytest
import torch
from transformers import PreTrainedModel

from candor.engines.packed import PackedEngine
from candor.engines.padded import PaddedEngine
from candor.item import Item, Score
from candor.probes.probe import Pooling, Probe
from tests.tiny import tiny_gemma2, tiny_llama, tiny_mistral, tiny_qwen2, tiny_qwen3

PAD = 1
"""`</s>`, the pad token of the tiny models' configuration."""
FAMILIES = [tiny_llama, tiny_qwen2, tiny_qwen3, tiny_mistral, tiny_gemma2]


def make_items(seed: int = 0, lengths: Sequence[int] = (5, 40, 17, 1, 23, 2, 31)) -> list[Item]:
    """Random ids with the pad id in the middle, and at the very end of every other item."""
    draw = random.Random(seed)
    items = []
    for number, length in enumerate(lengths):
        ids = [draw.randrange(2, 320) for _ in range(length)]
        if length > 3:
            ids[length // 2] = PAD
        if number % 2:
            ids[-1] = PAD
        start = draw.randrange(0, length)
        end = draw.randrange(start + 1, length + 1)
        items.append(Item(tuple(ids), start, end, want_tokens=number % 3 == 0))
    return items


def make_probes(model: PreTrainedModel, poolings: Sequence[Pooling] = ("mean",)) -> list[Probe]:
    """One probe per layer and pooling, for every layer from the embeddings to the final norm."""
    generator = torch.Generator().manual_seed(5)
    return [
        Probe(
            f"{pooling}{layer}", torch.randn(32, generator=generator), 0.25 * layer, layer, pooling
        )
        for layer in range(model.config.num_hidden_layers + 1)
        for pooling in poolings
    ]


TOLERANCE = 1e-4
POOLINGS: tuple[Pooling, ...] = ("mean", "max", "last", "topk", "rolling-max")


def engines(model: PreTrainedModel) -> tuple[PaddedEngine, PackedEngine]:
    """Both engines, each with its own copy of the model, because the packed engine replaces the
    model's attention.

    The padded engine runs eager attention, as in the server for a soft-capping model: transformers'
    sdpa ignores the cap.
    """
    probes = make_probes(model, POOLINGS)
    own = copy.deepcopy(model)
    own.set_attn_implementation("eager")
    padded = PaddedEngine(own, probes, device="cpu")
    return padded, PackedEngine(model, probes, device="cpu")


def assert_equal(found: Sequence[Score], expected: Sequence[Score], tolerance: float) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.base_reward == pytest.approx(other.base_reward, abs=tolerance)
        assert list(one.readings) == list(other.readings)
        for name, reading in other.readings.items():
            assert one.readings[name].score == pytest.approx(reading.score, abs=tolerance)
            assert one.readings[name].max == pytest.approx(reading.max, abs=tolerance)
            if reading.token_logits is not None:
                logits = one.readings[name].token_logits
                assert logits == pytest.approx(reading.token_logits, abs=tolerance)


def grouped_items(seed: int, groups: int = 3, size: int = 4) -> list[Item]:
    """Responses to shared contexts, early turns shared between contexts, in a random order."""
    draw = random.Random(seed)

    def some(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw.randrange(320) for _ in range(draw.randint(low, high)))

    opening = some(20, 40)
    items = []
    for group in range(groups):
        context = (opening if group else ()) + some(10, 30)
        for number in range(size):
            response = some(1, 15)
            ids = context + response + some(0, 3)
            start = len(context)
            items.append(Item(ids, start, start + len(response), want_tokens=number == 0))
    items.append(items[0])
    draw.shuffle(items)
    return items
