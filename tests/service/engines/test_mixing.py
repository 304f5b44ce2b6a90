"""A model is packed only if attention alone carries information from token to token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Qwen3_5TextConfig, Qwen3_5TextForSequenceClassification

from candor.engines import mixing
from candor.engines.choose import build_engine
from candor.engines.mixing import why_not_packable
from candor.engines.padded import PaddedEngine
from candor.forward.company import Company
from candor.models.checkpoint import ModelRefused
from tests.service.engines import mixers
from tests.service.engines.material import FAMILIES, assert_equal, grouped_items, make_probes
from tests.service.engines.mixers import with_mixer
from tests.tiny import tiny_llama, tiny_mistral


def reason_of(model: PreTrainedModel, num_tokens: int = mixing.NUM_TOKENS) -> str | None:
    return why_not_packable(model, Company(model), num_tokens)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_attention_alone_is_found_to_be_alone(
    family: Callable[[], PreTrainedModel], dtype: torch.dtype
) -> None:
    model = family().to(dtype)
    before = model.config._attn_implementation
    assert reason_of(model) is None
    assert model.config._attn_implementation == before


CARRIERS: dict[str, tuple[type[Any], str]] = {
    "token shift": (mixers.TokenShift, "any"),
    "running sum": (mixers.RunningSum, "any"),
    "look ahead": (mixers.LookAhead, "equal"),
    "by length": (mixers.ByLength, "equal"),
    "whole batch": (mixers.WholeBatch, "none"),
}
"""What is put into the blocks, and which texts may share a forward then."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CARRIERS)
def test_what_else_mixes_tokens_is_found_and_every_text_gets_its_own_number(
    name: str, dtype: torch.dtype
) -> None:
    kind, rule = CARRIERS[name]
    model = with_mixer(kind).to(dtype)
    items = grouped_items(0)
    probes = make_probes(model)
    plain = PaddedEngine(model, probes, device="cpu")
    alone = [plain.score([item]).scores[0] for item in items]
    assert "something else than attention mixes tokens" in str(reason_of(model))
    engine = build_engine("packed", model, probes, device="cpu")
    assert (engine.name, engine.company.rule) == ("padded", rule)
    if dtype == torch.float32:
        assert_equal(engine.score(items).scores, alone, 1e-4)


def test_a_weak_carrier_is_found_in_float32() -> None:
    assert reason_of(with_mixer(mixers.TokenShift, 0.01)) is not None
    assert reason_of(with_mixer(mixers.TokenShift, 0.0)) is None  # control


def test_the_mixer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Qwen3_5TextConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        layer_types=["linear_attention", "full_attention"],
        num_labels=1,
        pad_token_id=1,
    )
    model = Qwen3_5TextForSequenceClassification(config).eval()
    assert "linear_attention (parts of the blocks: Qwen3_5GatedDeltaNet" in str(reason_of(model))
    monkeypatch.setattr(mixing, "PLAIN_LAYERS", mixing.PADDABLE_LAYERS)  # found by what it does
    assert "a token changes with another token (parts of the blocks: Qwen3_5GatedDeltaNet" in str(
        reason_of(model)
    )


def test_scores_that_change_from_call_to_call_are_refused() -> None:
    with pytest.raises(ModelRefused, match="does not give the same scores twice"):
        build_engine("packed", with_mixer(mixers.Random), [], device="cpu")


def test_a_mask_that_is_more_than_causal_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def chunked(length: int, size: int, bias: float = 0.0) -> Tensor:
        place = torch.arange(length)
        seen = (place[:, None] >= place) & (place[:, None] // size == place // size)
        mask = torch.where(seen, bias, torch.finfo(torch.float32).min)
        return mask[None, None]

    model = tiny_llama()
    mask = chunked(mixing.NUM_TOKENS, mixing.NUM_TOKENS)
    for given, found in (
        (mask, None),
        (chunked(mixing.NUM_TOKENS, 16), "not causal with a window of None"),
        (mask + 0.5 * (mask == 0), "adds a bias"),
        (torch.zeros_like(mask), "not causal"),
    ):
        with_mask(monkeypatch, given)
        reason = reason_of(model)
        assert reason is None if found is None else found in str(reason)


def with_mask(monkeypatch: pytest.MonkeyPatch, mask: Tensor) -> None:
    right = mixing._states

    def states(model: Any, company: Any, ids: list[int]) -> Any:
        found, calls = right(model, company, ids)
        return found, [
            mixing._Call(call.module, mask, call.arguments, call.num_keys) for call in calls
        ]

    monkeypatch.setattr(mixing, "_states", states)


def test_an_argument_that_may_change_the_scores_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_mistral()
    assert reason_of(model) is None
    trunk: nn.Module = model.model
    right = type(trunk).forward

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return right(self, *args, **kwargs, position_bias=torch.zeros(1))

    monkeypatch.setattr(type(trunk), "forward", forward)
    assert "MistralAttention gives its attention 'position_bias'" in str(reason_of(model))
