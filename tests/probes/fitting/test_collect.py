"""Collected means and rewards against `output_hidden_states=True`, one sequence at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from candor.probes.fitting.collect import collect, read_responses
from tests.tiny import tiny_gemma2, tiny_llama

# Of many lengths, so that batches are padded; with ids that equal the model's pad id (1).
SEQUENCES = [
    (list(np.random.default_rng(n).integers(0, 300, size=length)), length // 2, length - 1)
    for n, length in enumerate([9, 30, 4, 17, 30, 6])
] + [([5, 1, 7, 1], 1, 4)]


def by_hand(
    model: PreTrainedModel, sequence: tuple[list[int], int, int]
) -> tuple[list[Tensor], float]:
    """Response hidden states of every layer, and R, of a sequence alone: no padding, no hooks."""
    ids, start, end = sequence
    with torch.inference_mode():
        output = model.model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        reward = model.score(output.last_hidden_state[0, -1]).item()
    return [hidden[0, start:end] for hidden in output.hidden_states], reward


@pytest.mark.parametrize("build", [tiny_llama, tiny_gemma2], ids=lambda build: build.__name__)
@pytest.mark.parametrize("batch_tokens", [1, 64, 4096])
def test_batches_give_what_each_sequence_gives_alone(build: object, batch_tokens: int) -> None:
    model = build()  # type: ignore[operator]
    done: list[int] = []
    found = collect(model, SEQUENCES, [2, 0], batch_tokens=batch_tokens, progress=done.append)
    assert sum(done) == len(SEQUENCES)
    assert len(done) == {1: 7, 4096: 1}.get(batch_tokens, len(done))
    assert set(found.means) == {0, 2}
    for row, sequence in enumerate(SEQUENCES):
        hidden, reward = by_hand(model, sequence)
        for layer in (0, 2):
            expected = hidden[layer].mean(0).numpy()
            np.testing.assert_allclose(found.means[layer][row], expected, atol=1e-5)
        assert found.rewards[row] == pytest.approx(reward, abs=1e-5)
    assert found.means[0].dtype == found.rewards.dtype == np.float32
    assert np.ptp(found.rewards) > 0.1  # the control: rows differ, so a wrong order would show


def test_a_bfloat16_model_is_averaged_in_float32() -> None:
    model = tiny_llama().bfloat16()
    mean = collect(model, SEQUENCES[1:2], [0]).means[0][0]
    hidden = by_hand(model, SEQUENCES[1])[0][0]
    np.testing.assert_allclose(mean, hidden.float().mean(0).numpy(), atol=1e-6)
    assert np.abs(mean - hidden.mean(0).float().numpy()).max() > 1e-5  # the control


@pytest.mark.parametrize("span", [(2, 2), (3, 2), (-1, 2), (0, 5)])
def test_a_response_span_that_is_empty_or_outside_is_refused(span: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="sequence 1"):
        collect(tiny_llama(), [([1, 2], 0, 2), ([1, 2, 3, 4], *span)], [0])


def test_nothing_to_collect_is_refused() -> None:
    with pytest.raises(ValueError, match="no sequences"):
        collect(tiny_llama(), [], [0])


def test_every_response_token_is_handed_over_layer_by_layer_and_nothing_else() -> None:
    model = tiny_llama()
    seen: dict[tuple[int, int], Tensor] = {}

    def keep(layer: int, batch: list[int], hidden: Tensor) -> None:
        lengths = [SEQUENCES[index][2] - SEQUENCES[index][1] for index in batch]
        seen.update(((layer, i), p) for i, p in zip(batch, hidden.split(lengths), strict=True))

    read_responses(model, SEQUENCES, [0, 1], keep, batch_tokens=64)
    assert set(seen) == {(layer, index) for layer in (0, 1) for index in range(len(SEQUENCES))}
    for (layer, index), hidden in seen.items():
        torch.testing.assert_close(hidden, by_hand(model, SEQUENCES[index])[0][layer])


@pytest.mark.parametrize(
    ("part", "said"),
    [("embed_tokens", "b.jsonl:2: layer 0 is not finite"), ("score", "the base reward is not")],
)
def test_numbers_that_are_not_finite_are_refused_and_the_row_and_layer_named(
    part: str, said: str
) -> None:
    model = tiny_llama()
    names = ["a.jsonl:1", "b.jsonl:2"]
    sequences = [([1, 2], 0, 2), ([1, 299], 0, 2)]
    collect(model, sequences, [0], names=names)
    with torch.no_grad():
        if part == "score":
            model.score.weight[0, 0] = torch.nan
        else:
            model.get_input_embeddings().weight[299] = torch.inf
    with pytest.raises(ValueError, match=said):
        collect(model, sequences, [0], names=names)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_gives_what_the_cpu_gives() -> None:
    model = tiny_llama()
    cpu = collect(model, SEQUENCES, [0, 2])
    model.cuda()
    found = collect(model, SEQUENCES, [0, 2])
    for layer in (0, 2):
        np.testing.assert_allclose(found.means[layer], cpu.means[layer], atol=1e-4)
    np.testing.assert_allclose(found.rewards, cpu.rewards, atol=1e-4)
