"""Activations on disk: lossless, read back as serving reads them, and no second forward."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from candor.forward.company import Company
from candor.forward.packed_attention import NAME
from candor.probes.fitting.activations import (
    TokenActivations,
    activations_key,
    layer_file,
    read_tokens,
)
from candor.probes.probe import Pooling, Probe, pooled
from tests.architectures import LONGROPE
from tests.probes.fitting.passes import SEQUENCES, Sequence, by_hand, collect
from tests.tiny import tiny_gemma2, tiny_llama, tiny_mistral, tiny_qwen3

POOLINGS: list[Pooling] = ["mean", "max", "last", "topk", "rolling-max"]


class ForwardCount:
    """How many forwards ran through a model's trunk."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.count = 0
        model.model.register_forward_hook(self._one)

    def _one(self, module: torch.nn.Module, args: object, output: object) -> None:
        self.count += 1


def same(one: TokenActivations, other: TokenActivations) -> bool:
    return bool(np.array_equal(one.rewards, other.rewards)) and all(
        np.array_equal(one.read(layer).means, other.read(layer).means)
        and torch.equal(one.read(layer).tokens, other.read(layer).tokens)
        for layer in one.layers
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_read_back_is_bit_for_bit_what_the_model_gave(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    model = tiny_gemma2().to(dtype)
    found = read_tokens(model, SEQUENCES, [3, 0], tmp_path, batch_tokens=1)
    assert found.layers == (0, 3)
    for layer in found.layers:
        here = found.read(layer)
        assert here.tokens.dtype == dtype
        for index, sequence in enumerate(SEQUENCES):
            expected = by_hand(model, sequence)[0][layer]
            assert torch.equal(here.tokens[here.bounds[index] : here.bounds[index + 1]], expected)
    size = sum(end - start for _, start, end in SEQUENCES) * 32 * dtype.itemsize
    assert layer_file(tmp_path, 0).stat().st_size == size


def test_means_and_rewards_are_those_of_the_pass(tmp_path: Path) -> None:
    model = tiny_llama()
    found = read_tokens(model, SEQUENCES, [1], tmp_path)
    hidden, rewards = collect(model, SEQUENCES, [1])
    expected = [hidden[1, row].mean(0).numpy() for row in range(len(SEQUENCES))]
    np.testing.assert_allclose(found.read(1).means, expected, atol=1e-6)
    assert np.array_equal(found.rewards, rewards)


def test_a_bfloat16_model_is_averaged_in_float32(tmp_path: Path) -> None:
    model = tiny_llama().bfloat16()
    mean = read_tokens(model, SEQUENCES[1:2], [0], tmp_path).read(0).means[0]
    hidden = by_hand(model, SEQUENCES[1])[0][0]
    np.testing.assert_allclose(mean, hidden.float().mean(0).numpy(), atol=1e-6)
    assert np.abs(mean - hidden.mean(0).float().numpy()).max() > 1e-5  # the control


@pytest.mark.parametrize("pooling", POOLINGS)
def test_scores_are_each_probe_on_each_response_alone(tmp_path: Path, pooling: Pooling) -> None:
    model = tiny_llama()
    weights = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)
    biases = np.array([0.5, -1.0, 0.0], dtype=np.float32)
    rows = [4, 0, 6]
    here = read_tokens(model, SEQUENCES, [1], tmp_path).read(1)
    found = here.scores(weights, biases, rows, pooling)
    assert found.shape == (3, 3)
    for place, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        probe = Probe("p", torch.from_numpy(weight), float(bias), 1, pooling)
        expected = [probe.pool(probe.logits(by_hand(model, SEQUENCES[r])[0][1])) for r in rows]
        np.testing.assert_allclose(found[place], expected, atol=1e-5)
    assert np.ptp(found) > 0.1  # the control: a constant would be equal as well


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("length", [1, 2, 9, 10, 11, 35])
def test_pooling_many_probes_is_pooling_each(pooling: Pooling, length: int) -> None:
    logits = torch.randn(4, length, generator=torch.Generator().manual_seed(length))
    probe = Probe("p", torch.zeros(1), 0.0, 0, pooling)
    expected = torch.tensor([probe.pool(row) for row in logits])
    torch.testing.assert_close(pooled(logits, pooling), expected)


def test_a_second_reading_runs_no_forward_and_gives_the_same_numbers(tmp_path: Path) -> None:
    model = tiny_llama()
    forwards = ForwardCount(model)
    done: list[int] = []
    first = read_tokens(model, SEQUENCES, [0, 2], tmp_path, batch_tokens=64)
    once = forwards.count
    again = read_tokens(model, SEQUENCES, [2, 0], tmp_path, progress=done.append)
    assert forwards.count == once > 1
    assert same(first, again)
    assert sum(done) == len(SEQUENCES)
    # The control: another folder has to read them.
    assert same(first, read_tokens(model, SEQUENCES, [0, 2], tmp_path / "b", batch_tokens=64))
    assert forwards.count == 2 * once


def test_layers_that_are_missing_are_added_and_the_others_kept(tmp_path: Path) -> None:
    model = tiny_llama()
    read_tokens(model, SEQUENCES, [0], tmp_path)
    before = layer_file(tmp_path, 0).stat()
    found = read_tokens(model, SEQUENCES, [0, 1], tmp_path)
    assert layer_file(tmp_path, 0).stat() == before
    assert same(found, read_tokens(model, SEQUENCES, [0, 1], tmp_path / "b"))


def test_a_pass_that_is_cut_off_leaves_nothing_to_be_believed(tmp_path: Path) -> None:
    model = tiny_llama()

    def cut_off(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_tokens(model, SEQUENCES, [0], tmp_path, batch_tokens=64, progress=cut_off)
    assert list(tmp_path.iterdir()) == []
    assert same(
        read_tokens(model, SEQUENCES, [0], tmp_path),
        read_tokens(model, SEQUENCES, [0], tmp_path / "b"),
    )


def test_activations_that_are_not_finite_leave_no_file(tmp_path: Path) -> None:
    model = tiny_llama()
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight[0] = torch.nan
    names = [f"rows.jsonl:{number}" for number in range(1, 8)]
    with pytest.raises(ValueError, match=r"rows\.jsonl:\d: layer 1 is not finite"):
        read_tokens(model, SEQUENCES, [0, 1], tmp_path, names=names)
    assert list(tmp_path.iterdir()) == []


def test_nothing_done_to_what_was_read_reaches_the_file(tmp_path: Path) -> None:
    found = read_tokens(tiny_llama(), SEQUENCES, [0], tmp_path)
    before = layer_file(tmp_path, 0).read_bytes()
    found.read(0).tokens.zero_()
    assert layer_file(tmp_path, 0).read_bytes() == before


def test_a_damaged_file_and_a_layer_that_was_not_read_are_named(tmp_path: Path) -> None:
    found = read_tokens(tiny_llama(), SEQUENCES, [0], tmp_path)
    with pytest.raises(ValueError, match=r"layer 1 was not read; there are \[0\]"):
        found.read(1)
    layer_file(tmp_path, 0).write_bytes(b"short")
    with pytest.raises(ValueError, match=r"layer-000\.tokens has 5 bytes"):
        found.read(0)


def test_a_disk_without_room_is_said_before_the_pass(tmp_path: Path) -> None:
    model = tiny_llama()
    forwards = ForwardCount(model)
    huge = [([1] * 4, 0, 4)] * 8
    layers = range(3)
    room = pytest.MonkeyPatch()
    room.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10_000})())
    try:
        with pytest.raises(OSError, match=r"32 tokens at 3 layers take 0\.0 GB"):
            read_tokens(model, huge, layers, tmp_path)
    finally:
        room.undo()
    assert forwards.count == 0
    read_tokens(model, huge, layers, tmp_path)


def test_the_key_is_of_everything_that_decides_the_numbers() -> None:
    def key(sequences: object = None, **changes: str) -> str:
        fields = {"weights_sha256": "a", "dtype": "float32", "device": "cpu"} | changes
        return activations_key(sequences or SEQUENCES, **fields)  # type: ignore[arg-type]

    ids, start, end = SEQUENCES[1]
    keys = [
        key(),
        key(weights_sha256="b"),
        key(dtype="bfloat16"),
        key(device="cuda"),
        key(SEQUENCES[::-1]),
        key([SEQUENCES[0], (ids, start, end - 1), *SEQUENCES[2:]]),
        key([SEQUENCES[0], ([*ids[:-1], ids[-1] + 1], start, end), *SEQUENCES[2:]]),
    ]
    assert len(set(keys)) == len(keys)
    assert key() == key([(tuple(ids), start, end) for ids, start, end in SEQUENCES])


@pytest.mark.parametrize("family", [tiny_llama, tiny_qwen3, tiny_mistral, tiny_gemma2])
def test_a_packed_pass_gives_the_padded_numbers_and_computes_a_shared_context_once(
    tmp_path: Path, family: Callable[[], PreTrainedModel]
) -> None:
    context, early = tuple(range(10, 50)), tuple(range(60, 85))
    shared = [
        ((*start, *reply), len(start), len(start) + len(reply))
        for start in (context, (*context, *early))
        for reply in ((3, 4, 5), (6, 7), (8, 9, 10, 11))
    ]
    sequences = [*SEQUENCES, *shared, shared[0]]
    plain, model = family(), family()
    plain.set_attn_implementation("eager")  # sdpa ignores Gemma 2's soft-cap
    model.set_attn_implementation(NAME)
    layers = [0, 1, 2]
    expected = read_tokens(plain, sequences, layers, tmp_path / "padded")
    widths: list[int] = []
    model.model.register_forward_hook(
        lambda module, args, output: widths.append(output.last_hidden_state.shape[1])
    )
    found = read_tokens(model, sequences, layers, tmp_path / "packed", packed=True, batch_tokens=70)
    np.testing.assert_allclose(found.rewards, expected.rewards, atol=1e-4)
    for layer in layers:
        one, other = found.read(layer), expected.read(layer)
        assert torch.equal(torch.from_numpy(one.bounds), torch.from_numpy(other.bounds))
        torch.testing.assert_close(one.tokens, other.tokens, atol=1e-4, rtol=1e-4)
    assert len(widths) > 1  # a context is computed again in another batch, never twice in one
    assert sum(widths) < 0.7 * sum(len(ids) for ids, _, _ in sequences)


@pytest.mark.parametrize("packed", [False, True])
def test_texts_on_both_sides_of_a_rotary_boundary_are_read_as_alone(packed: bool) -> None:
    """LongRoPE: a pass that put short and long texts into one forward would read the short ones
    with the long ones' frequencies, as the control does."""
    texts: list[Sequence] = [
        (list(np.random.default_rng(n).integers(2, 300, size=length)), length // 2, length - 1)
        for n, length in enumerate([20, 90, 64, 65, 30, 120])
    ]
    new = tiny_llama(rope_parameters=dict(LONGROPE))
    expected = [by_hand(copy.deepcopy(new), text) for text in texts]
    model = tiny_llama(rope_parameters=dict(LONGROPE))
    if packed:
        model.set_attn_implementation(NAME)
    company = Company(model)
    found, rewards = collect(model, texts, [1, 2], packed=packed, company=company)
    for number, (hidden, reward) in enumerate(expected):
        assert rewards[number] == pytest.approx(reward, abs=1e-4)
        for layer in (1, 2):
            assert torch.allclose(found[layer, number], hidden[layer], atol=1e-4)
    company._sides.clear()  # control
    _, mixed = collect(model, texts, [1], packed=packed, company=company)
    assert abs(mixed[0] - expected[0][1]) > 0.01
