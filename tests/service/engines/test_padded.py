"""The engine's scores compared with Hugging Face's own forward of each item alone, unpadded, in
float32.

Tolerance: 1e-4 absolute on scores of order 1. A batch computes the same sums in another order. The
faults to find (a wrong position, a neighbour's padding, a wrong layer) change a score by 1e-2 or
more, as the controls show.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from candor.engines.packed import PackedEngine
from candor.engines.padded import PaddedEngine
from candor.item import Item
from candor.probes.probe import Probe
from tests.architectures import LONGROPE
from tests.service.engines.material import FAMILIES, PAD, POOLINGS, make_items, make_probes
from tests.tiny import tiny_llama, tiny_qwen2

TOLERANCE = 1e-4


def reward_alone(model: PreTrainedModel, item: Item) -> float:
    """Hugging Face's own reward: a batch of one item, no padding, and no pad id to look for."""
    pad, model.config.pad_token_id = model.config.pad_token_id, None
    try:
        with torch.inference_mode():
            return float(model(input_ids=torch.tensor([item.token_ids])).logits[0, 0])
    finally:
        model.config.pad_token_id = pad


def token_logits_alone(model: PreTrainedModel, probe: Probe, item: Item) -> torch.Tensor:
    with torch.inference_mode():
        output = model.model(
            input_ids=torch.tensor([item.token_ids]), output_hidden_states=True, use_cache=False
        )
    hidden = output.hidden_states[probe.layer][0, item.response_start : item.response_end]
    return hidden @ probe.weight + probe.bias


@pytest.mark.parametrize("family", FAMILIES)
def test_served_rewards_are_the_models_own(family: Callable[[], PreTrainedModel]) -> None:
    model = family()
    engine = PaddedEngine(model, [], device="cpu")
    items = make_items()
    alone = [reward_alone(model, item) for item in items]
    assert max(alone) - min(alone) > 0.1
    for order in (items, items[::-1], items[3:] + items[:3]):
        for item, score in zip(order, engine.score(order).scores, strict=True):
            assert score.base_reward == pytest.approx(alone[items.index(item)], abs=TOLERANCE)
    for item, reward in zip(items, alone, strict=True):
        (score,) = engine.score([item]).scores
        assert score.base_reward == pytest.approx(reward, abs=TOLERANCE)


@pytest.mark.parametrize("pad_token_id", [None, 0, PAD, 3])
def test_the_pad_id_of_the_configuration_does_not_matter(pad_token_id: int | None) -> None:
    """No pad id, an arbitrary id, an id that the texts contain, and the end-of-text id."""
    model = tiny_llama(pad_token_id=pad_token_id)
    items = make_items()
    scores = PaddedEngine(model, [], device="cpu").score(items).scores
    for item, score in zip(items, scores, strict=True):
        assert score.base_reward == pytest.approx(reward_alone(model, item), abs=TOLERANCE)


def test_control_looking_for_the_pad_id_misreads_an_item_that_ends_in_it() -> None:
    model = tiny_llama()
    item = Item((9, 8, 7, PAD), 1, 3)
    with torch.inference_mode():
        searched = float(model(input_ids=torch.tensor([item.token_ids])).logits[0, 0])
    assert abs(searched - reward_alone(model, item)) > 100 * TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_readings_are_those_of_a_probe_applied_by_hand_at_every_layer(
    family: Callable[[], PreTrainedModel],
) -> None:
    model = family()
    probes = make_probes(model, POOLINGS)
    items = make_items(seed=1)
    scores = PaddedEngine(model, probes, device="cpu").score(items).scores
    for item, score in zip(items, scores, strict=True):
        assert list(score.readings) == [probe.name for probe in probes]
        for probe in probes:
            reading = score.readings[probe.name]
            by_hand = token_logits_alone(model, probe, item)
            assert reading.score == pytest.approx(probe.pool(by_hand), abs=TOLERANCE)
            assert reading.mean == pytest.approx(float(by_hand.mean()), abs=TOLERANCE)
            assert reading.max == pytest.approx(float(by_hand.max()), abs=TOLERANCE)
            if item.want_tokens:
                assert reading.token_logits == pytest.approx(by_hand.tolist(), abs=TOLERANCE)
            else:
                assert reading.token_logits is None


def test_control_neighbouring_layers_and_positions_read_differently() -> None:
    model = tiny_llama()
    item = Item(tuple(range(40, 60)), 8, 16)
    shifted = Item(item.token_ids, 9, 16)
    weight = make_probes(model)[0].weight
    probes = [Probe("p", weight, 0.0, layer, "mean") for layer in range(3)]
    values = [probe.pool(token_logits_alone(model, probe, item)) for probe in probes]
    values.append(probes[2].pool(token_logits_alone(model, probes[2], shifted)))
    gaps = [abs(a - b) for i, a in enumerate(values) for b in values[:i]]
    assert min(gaps) > 100 * TOLERANCE


def test_the_reward_does_not_depend_on_the_probes() -> None:
    model = tiny_qwen2()
    items = make_items()
    without = PaddedEngine(model, [], device="cpu").score(items).scores
    with_all = PaddedEngine(model, make_probes(model), device="cpu").score(items).scores
    assert [s.base_reward for s in without] == [s.base_reward for s in with_all]


def test_cost_and_computed_tokens_are_the_padded_ones() -> None:
    engine = PaddedEngine(tiny_llama(), [], device="cpu")
    items = make_items(lengths=(3, 9, 5))
    assert [*engine.costs(items)][-1] == 27
    assert engine.score(items).num_computed_tokens == 27


def test_cost_is_that_of_the_parts_that_are_computed_apart() -> None:
    """Texts on both sides of LongRoPE's boundary; texts that must have one length; each alone."""
    rope = tiny_llama(rope_parameters=dict(LONGROPE))
    items = make_items(lengths=(3, 70, 5, 90, 5))
    for engine, costs in (
        (PaddedEngine(rope, [], device="cpu"), [3, 73, 80, 190, 195]),
        (PaddedEngine(tiny_llama(), [], device="cpu", rule="equal"), [3, 73, 78, 168, 173]),
        (PaddedEngine(tiny_llama(), [], device="cpu", rule="none"), [3, 73, 78, 168, 173]),
    ):
        assert [*engine.costs(items)] == costs
        assert engine.score(items).num_computed_tokens == costs[-1]
    packed_rope = PackedEngine(tiny_llama(rope_parameters=dict(LONGROPE)), [], device="cpu")
    assert [*packed_rope.costs(items)][-1] == packed_rope.score(items).num_computed_tokens


def test_a_model_in_bfloat16_is_read_in_float32() -> None:
    model = tiny_llama().bfloat16()
    probes = make_probes(model)
    item = make_items(lengths=(20,))[0]
    (score,) = PaddedEngine(model, probes, device="cpu").score([item]).scores
    with torch.inference_mode():
        output = model.model(
            input_ids=torch.tensor([item.token_ids]), output_hidden_states=True, use_cache=False
        )
        expected = output.last_hidden_state[0, -1].float() @ model.score.weight[0].float()
    assert score.base_reward == pytest.approx(float(expected), abs=1e-6)
    for probe in probes:
        hidden = output.hidden_states[probe.layer][0, item.response_start : item.response_end]
        by_hand = probe.pool(hidden.float() @ probe.weight + probe.bias)
        assert score.readings[probe.name].score == pytest.approx(by_hand, abs=1e-5)


def test_two_probes_of_one_name_are_refused() -> None:
    model = tiny_llama()
    probe = make_probes(model)[0]
    with pytest.raises(ValueError, match="share a name"):
        PaddedEngine(model, [probe, probe], device="cpu")


def test_a_probe_of_a_layer_the_model_lacks_is_refused() -> None:
    probe = Probe("p", torch.zeros(32), 0.0, 3, "mean")
    with pytest.raises(ValueError, match="layer 3 is not in"):
        PaddedEngine(tiny_llama(), [probe], device="cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_cuda_device_gives_the_same_numbers(family: Callable[[], PreTrainedModel]) -> None:
    """Tolerance 1e-3: float32 on another device, with other kernels."""
    model = family()
    probes = make_probes(model)
    items = make_items()
    on_cpu = PaddedEngine(model, probes, device="cpu").score(items).scores
    on_cuda = PaddedEngine(model.cuda(), probes, device="cuda").score(items).scores
    for one, other in zip(on_cpu, on_cuda, strict=True):
        assert other.base_reward == pytest.approx(one.base_reward, abs=1e-3)
        for name, reading in one.readings.items():
            assert other.readings[name].score == pytest.approx(reading.score, abs=1e-3)
