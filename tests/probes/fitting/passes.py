"""Sequences for a pass over a tiny model, and the numbers that the pass must give."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from candor.probes.fitting.collect import read_responses

Sequence = tuple[list[int], int, int]

# Of many lengths, so that batches are padded; with ids that equal the model's pad id (1).
SEQUENCES: list[Sequence] = [
    (list(np.random.default_rng(n).integers(0, 300, size=length)), length // 2, length - 1)
    for n, length in enumerate([9, 30, 4, 17, 30, 6])
] + [([5, 1, 7, 1], 1, 4)]


def by_hand(model: PreTrainedModel, sequence: Sequence) -> tuple[list[Tensor], float]:
    """Response hidden states of every layer, and R, of a sequence alone: no padding, no hooks."""
    ids, start, end = sequence
    with torch.inference_mode():
        output = model.model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        reward = model.score(output.last_hidden_state[0, -1]).item()
    return [hidden[0, start:end] for hidden in output.hidden_states], reward


def collect(
    model: PreTrainedModel, sequences: list[Sequence], layers: list[int], **options: Any
) -> tuple[dict[tuple[int, int], Tensor], NDArray[np.float32]]:
    """(layer, sequence number) -> hidden states of the response tokens; and R of each sequence."""
    found: dict[tuple[int, int], Tensor] = {}

    def keep(layer: int, batch: list[int], hidden: Tensor) -> None:
        lengths = [sequences[index][2] - sequences[index][1] for index in batch]
        parts = zip(batch, hidden.cpu().split(lengths), strict=True)
        found.update(((layer, index), part) for index, part in parts)

    rewards = read_responses(model, sequences, layers, keep, **options)
    return found, rewards
