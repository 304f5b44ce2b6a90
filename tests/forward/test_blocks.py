"""Blocks taken over: the same scores as the padded engine's, and of the last block no more than
what is read."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from candor.engines.packed import PackedEngine
from candor.forward import blocks
from candor.forward.batch import packed
from candor.forward.head import decoder
from candor.item import Item
from tests.forward.kernels import PATHS, built, computed_by
from tests.service.engines.material import (
    TOLERANCE,
    assert_equal,
    engines,
    grouped_items,
    make_items,
    make_probes,
)
from tests.tiny import tiny_gemma2, tiny_llama, tiny_mistral, tiny_qwen2, tiny_qwen3

FAMILIES = [tiny_llama, tiny_qwen2, tiny_qwen3, lambda: tiny_mistral(sliding_window=16)]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_taken_over_score_as_the_padded_engine_does(
    family: Callable[[], PreTrainedModel], path: str
) -> None:
    padded, packed_engine = engines(family())
    with computed_by(path):
        assert blocks.take_over(packed_engine._model)
        for items in (grouped_items(0), make_items()):
            assert_equal(packed_engine.score(items).scores, padded.score(items).scores, TOLERANCE)


def test_a_block_with_more_in_it_keeps_its_own_forward() -> None:
    model = tiny_gemma2()
    assert not blocks.take_over(model)
    assert all("forward" not in vars(block) for block in decoder(model).layers)  # type: ignore[union-attr]
    biased = tiny_llama(mlp_bias=True)
    assert not blocks.take_over(biased)
    assert not blocks.take_over(tiny_llama(hidden_act="gelu"))


def test_given_back_a_model_runs_as_before() -> None:
    model = tiny_llama()
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        blocks.take_over(model)
        with pytest.raises(TypeError, match="packed_layout"):  # only of packed batches
            model(input_ids=ids)
        blocks.give_back(model)
        assert torch.equal(model(input_ids=ids).logits, before)


def last_hidden(model: PreTrainedModel, items: list[Item], read_last_layer: bool) -> Tensor:
    forward = packed(
        [item.token_ids for item in items],
        [(item.response_start, item.response_end) for item in items],
        torch.device("cpu"),
        read_last_layer=read_last_layer,
    )
    with torch.inference_mode():
        hidden: Tensor = decoder(model)(**forward.inputs).last_hidden_state[0]
    read = {*forward.last.tolist(), *(forward.positions.tolist() if read_last_layer else ())}
    assert set(hidden.isfinite().all(1).nonzero().flatten().tolist()) == read
    return hidden


def test_a_token_of_the_last_layer_that_was_not_to_be_read_is_no_number() -> None:
    model = tiny_llama()
    engine = PackedEngine(model, [], device="cpu")
    blocks.take_over(model)
    items = grouped_items(2)
    few, more = (last_hidden(model, items, read) for read in (False, True))
    both = few.isfinite()
    assert 0 < both.sum() < more.isfinite().sum() < more.numel()
    assert torch.allclose(few[both], more[both], atol=1e-6)
    assert all(score.is_finite for score in engine.score(items).scores)


@pytest.mark.parametrize("path", PATHS)
def test_in_bfloat16_no_less_exact_than_the_blocks_own(path: str) -> None:
    """Mean error of R and of every layer's probe against float32; half as much again for chance."""
    items = [item for seed in range(4) for item in grouped_items(seed)]
    model = tiny_llama()
    probes = make_probes(model)
    exact = PackedEngine(copy.deepcopy(model), probes, device="cpu").score(items).scores
    engine = PackedEngine(model.bfloat16(), probes, device="cpu")

    def error() -> float:
        gaps = [
            abs(a - b)
            for one, other in zip(engine.score(items).scores, exact, strict=True)
            for a, b in [
                (one.base_reward, other.base_reward),
                *((r.mean, other.readings[name].mean) for name, r in one.readings.items()),
            ]
        ]
        return sum(gaps) / len(gaps)

    with computed_by("torch"):
        theirs = error()
    with computed_by(path):
        blocks.take_over(model)
        assert 0 < error() <= 1.5 * theirs


@pytest.mark.parametrize("flags", [[], ["--emulate"]])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.04)])
@pytest.mark.parametrize("size", [2, 14, 64, 90])
def test_the_compiled_steps_between_products(
    flags: list[str], dtype: torch.dtype, tolerance: float, size: int
) -> None:
    kernel = built(*flags)
    if isinstance(kernel, str):
        pytest.skip(f"no native kernel here: {kernel}")
    generator = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).mul(2).to(dtype)

    def near(found: Tensor, expected: Tensor) -> bool:
        return torch.allclose(found.double(), expected, atol=tolerance, rtol=tolerance)

    hidden, weight = some(7, size), some(size)
    root = (hidden.double().square().mean(-1, keepdim=True) + 0.5).sqrt()
    assert near(kernel.rms_norm(hidden, weight, 0.5), hidden.double() / root * weight.double())
    states, angle = some(7, 3, size), some(7, size // 2).float().repeat(1, 2)
    cosines, sines = angle.cos().to(dtype), angle.sin().to(dtype)
    first, second = states.double().chunk(2, -1)
    turned = torch.cat((-second, first), -1) * sines.double()[:, None]
    expected = states.double() * cosines.double()[:, None] + turned
    kernel.rotate(states, cosines, sines)
    assert near(states, expected)
    gate, up = some(7, size) * 20, some(7, size)
    gate[0, :2] = torch.tensor([-300.0, 300.0])
    up[3, 1] = torch.nan
    expected = torch.nn.functional.silu(gate.double()) * up.double()
    kernel.silu_multiply(gate, up)
    assert bool(gate[3, 1].isnan())
    expected[3, 1] = gate[3, 1] = 0
    assert near(gate, expected)
