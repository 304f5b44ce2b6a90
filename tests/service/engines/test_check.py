"""The check at start: what it compares, how close, and that faults do not hide in 16 bits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from transformers import LlamaForSequenceClassification, PreTrainedModel

from candor.engines import check
from candor.engines.check import (
    boundaries,
    check_items,
    items_for,
    own_states,
    why_blocks_wrong,
    why_head_unknown,
    why_wrong,
)
from candor.engines.choose import build_engine
from candor.engines.packed import PackedEngine
from candor.engines.padded import PaddedEngine
from candor.forward import batch as forward
from candor.forward.batch import packed, padded
from candor.forward.company import Company
from candor.forward.prefix import Layout, Segment, lay_out
from candor.item import Score
from candor.models.checkpoint import ModelRefused
from candor.models.load import load_reward_model
from tests.architectures import CONFIGS, save_architecture
from tests.service.engines import mixers
from tests.service.engines.material import FAMILIES, engines, make_probes
from tests.service.engines.mixers import with_mixer
from tests.tiny import tiny_gemma2, tiny_llama, tiny_mistral

DTYPES = [torch.float32, torch.bfloat16]


def forgetful(sequences: Sequence[Sequence[int]], keys: Sequence[bytes], known: object) -> Layout:
    """The effect of stock attention on a packed batch: a response that has lost its context."""
    right = lay_out(sequences, keys)
    cut = [Segment(s.start, s.end, s.depth, ()) for s in right.segments]
    return Layout(right.token_ids, right.positions, tuple(cut), right.paths)


def test_a_right_engine_passes_and_a_wrong_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    padded_engine, packed_engine = engines(tiny_llama())
    items = check_items(320)
    expected = padded_engine.score(items).scores
    assert why_wrong(packed_engine.score(items).scores, expected, torch.float32) is None
    monkeypatch.setattr(forward, "lay_out", forgetful)
    reason = why_wrong(packed_engine.score(items).scores, expected, torch.float32)
    assert "differ from the model's own forward" in str(reason)


def test_control_stock_attention_on_a_packed_batch_is_silently_wrong() -> None:
    padded_engine, packed_engine = engines(tiny_llama())
    items = check_items(320)
    expected = padded_engine.score(items).scores
    packed_engine._model.set_attn_implementation("sdpa")
    reason = why_wrong(packed_engine.score(items).scores, expected, torch.float32)
    assert "differ from the model's own forward" in str(reason)


def test_float32_is_held_to_a_thousandth_for_each_text_and_probe() -> None:
    padded_engine, _ = engines(tiny_llama())
    expected = [*padded_engine.score(check_items(320)).scores]
    spread = torch.tensor([score.base_reward for score in expected]).std(correction=0).item()
    for shift, wrong in ((0.0005, False), (0.002, True)):
        found = [*expected]
        found[3] = Score(expected[3].base_reward + shift * spread, expected[3].readings)
        assert (why_wrong(found, expected, torch.float32) is not None) is wrong
        assert why_wrong(found, expected, torch.bfloat16) is None
    other = PaddedEngine(tiny_llama(), make_probes(tiny_llama(), ("max",)), device="cpu")
    texts = check_items(320)
    moved = [
        Score(s.base_reward, {name: copy.copy(r) for name, r in s.readings.items()})
        for s in other.score(texts).scores
    ]
    first = moved[0].readings["max2"]
    moved[0].readings["max2"] = type(first)(first.score + 1.0, first.mean, first.max)
    reason = why_wrong(moved, other.score(texts).scores, torch.float32)
    assert "(of a probe)" in str(reason)


def test_own_scores_that_are_not_finite_are_said_to_be_so() -> None:
    padded_engine, _ = engines(tiny_llama())
    expected = [*padded_engine.score(check_items(320)).scores]
    expected[0] = Score(base_reward=float("nan"))
    found = why_wrong(expected, expected, torch.float32)
    assert found == "the model's own scores are not finite"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_block_by_block_right_layouts_pass(
    family: Callable[[], PreTrainedModel], dtype: torch.dtype
) -> None:
    model = family().to(dtype)
    model.set_attn_implementation("eager")
    company, items = Company(model), check_items(320)
    own = own_states(model, company, items)
    assert why_blocks_wrong(model, company, items, own, padded) is None
    PackedEngine(model, [], device="cpu")
    assert why_blocks_wrong(model, company, items, own, packed) is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_block_by_block_a_lost_context_is_found(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    model = tiny_llama().to(dtype)
    company, items = Company(model), check_items(320)
    own = own_states(model, company, items)
    PackedEngine(model, [], device="cpu")
    monkeypatch.setattr(forward, "lay_out", forgetful)
    assert "block 0 differs" in str(why_blocks_wrong(model, company, items, own, packed))
    monkeypatch.undo()
    assert why_blocks_wrong(model, company, items, own, packed) is None  # control


def test_in_bfloat16_a_fault_that_hides_in_the_scores_is_found_block_by_block() -> None:
    """A token shift leaks from text to text in a packed batch; in R it is less than the tolerance
    that rounding needs."""
    model = with_mixer(mixers.TokenShift, 0.1).bfloat16()
    items = check_items(320)
    plain = PaddedEngine(model, [], device="cpu")
    alone = [plain.score([item]).scores[0] for item in items]
    own = own_states(model, plain.company, items)
    engine = PackedEngine(model, [], device="cpu")
    assert why_wrong(engine.score(items).scores, alone, torch.bfloat16) is None
    assert "differs" in str(why_blocks_wrong(model, plain.company, items, own, packed))


def test_a_wrong_last_block_is_found() -> None:
    model = tiny_llama()
    company, items = Company(model), check_items(320)
    own = own_states(model, company, items)
    own[4] = own[4].clone()
    own[4][-1] += 0.5
    assert "block 1 differs" in str(why_blocks_wrong(model, company, items, own, padded))


def test_the_lengths_that_a_configuration_names_are_tried() -> None:
    assert boundaries(tiny_llama().config) == set()
    assert boundaries(tiny_gemma2().config) == {16}
    rope = {
        "rope_type": "yarn",
        "factor": 4.0,
        "rope_theta": 1e4,
        "original_max_position_embeddings": 64,
    }
    model = tiny_mistral(sliding_window=33, rope_parameters=rope)
    assert boundaries(model.config) == {33, 64}
    lengths = [item.num_tokens for item in items_for(model, Company(model))]
    assert {32, 49, 63, 80} <= set(lengths)
    assert max(item.num_tokens for item in check_items(320, window=30)) == 30


def test_the_texts_of_a_large_model_stay_short(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_mistral(sliding_window=200)
    assert max(item.num_tokens for item in items_for(model, Company(model))) == 216
    monkeypatch.setitem(check.MAX_CHECK_FLOPS, "cpu", 1e6)
    assert max(item.num_tokens for item in items_for(model, Company(model))) < 100


def test_a_head_that_reads_another_token_is_refused(tmp_path: Any) -> None:
    """Pooled over all tokens: transformers' own class says so in its configuration alone."""
    config = CONFIGS["cohere_compass_text"]
    for pooling in ("mean", "bos"):
        folder = save_architecture(
            tmp_path / pooling, "cohere_compass_text", {**config, "pooling": pooling}
        )
        loaded = load_reward_model(str(folder), device="cpu", dtype="float32")
        with pytest.raises(ModelRefused, match="has a head that Candor does not know"):
            build_engine("packed", loaded.model, [], device="cpu")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_head_with_something_behind_it_is_found(dtype: torch.dtype) -> None:
    class Capped(LlamaForSequenceClassification):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            out = super().forward(*args, **kwargs)
            out.logits = out.logits.tanh() * 0.1
            return out

    model = tiny_llama().to(dtype)
    item = check_items(320)[0]
    engine = PaddedEngine(model, [], device="cpu")
    (own,) = engine.score([item]).scores
    assert why_head_unknown(model, engine.company, item, own) is None
    model.__class__ = Capped
    assert "transformers' own logits are" in str(why_head_unknown(model, engine.company, item, own))


def test_a_forward_that_fails_is_a_refusal_with_its_cause() -> None:
    model = tiny_llama()

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    model.model.layers[1].register_forward_pre_hook(fail)
    with pytest.raises(ModelRefused, match=r"own forward fails: .*Tried to allocate.*--dtype"):
        build_engine("packed", model, [], device="cpu")
