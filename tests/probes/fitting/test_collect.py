"""Hidden states and rewards of a pass against `output_hidden_states=True`, sequence by sequence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.probes.fitting.passes import SEQUENCES, by_hand, collect
from tests.tiny import tiny_gemma2, tiny_llama


@pytest.mark.parametrize("build", [tiny_llama, tiny_gemma2], ids=lambda build: build.__name__)
@pytest.mark.parametrize("batch_tokens", [1, 64, 4096])
def test_batches_give_what_each_sequence_gives_alone(build: object, batch_tokens: int) -> None:
    model = build()  # type: ignore[operator]
    done: list[int] = []
    found, rewards = collect(
        model, SEQUENCES, [2, 0], batch_tokens=batch_tokens, progress=done.append
    )
    assert sum(done) == len(SEQUENCES)
    assert len(done) == {1: 7, 4096: 1}.get(batch_tokens, len(done))
    assert set(found) == {(layer, row) for layer in (0, 2) for row in range(len(SEQUENCES))}
    for row, sequence in enumerate(SEQUENCES):
        hidden, reward = by_hand(model, sequence)
        for layer in (0, 2):
            torch.testing.assert_close(found[layer, row], hidden[layer], atol=1e-5, rtol=1e-5)
        assert rewards[row] == pytest.approx(reward, abs=1e-5)
    assert rewards.dtype == np.float32
    assert np.ptp(rewards) > 0.1  # the control: rows differ, so a wrong order would show


@pytest.mark.parametrize("span", [(2, 2), (3, 2), (-1, 2), (0, 5)])
def test_a_response_span_that_is_empty_or_outside_is_refused(span: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="sequence 1"):
        collect(tiny_llama(), [([1, 2], 0, 2), ([1, 2, 3, 4], *span)], [0])


def test_nothing_to_collect_is_refused() -> None:
    with pytest.raises(ValueError, match="no sequences"):
        collect(tiny_llama(), [], [0])


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
    on_cpu, cpu_rewards = collect(model, SEQUENCES, [0, 2])
    found, rewards = collect(model.cuda(), SEQUENCES, [0, 2])
    for place, hidden in on_cpu.items():
        torch.testing.assert_close(found[place], hidden, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(rewards, cpu_rewards, atol=1e-4)
