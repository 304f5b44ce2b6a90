"""`right_pad`: sequences of token ids -> one rectangular batch. The caller keeps the lengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def right_pad(
    sequences: Sequence[Sequence[int]], device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Pads on the right with id 0 and masks the padding.

    No code looks for id 0 afterwards, because many models use their pad id as a real token. The
    last token of a sequence is found from the sequence's length.

    Returns:
        input_ids [B, T] int64, attention_mask [B, T] int64 (1 = real), on `device`.

    Raises:
        ValueError: there is no sequence, or a sequence is empty.
    """
    if not sequences or min(map(len, sequences)) == 0:
        raise ValueError("a batch needs a sequence, and every sequence at least one token")
    longest = max(map(len, sequences))
    input_ids = torch.zeros(len(sequences), longest, dtype=torch.int64)
    attention_mask = torch.zeros_like(input_ids)
    for row, sequence in enumerate(sequences):
        input_ids[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.int64)
        attention_mask[row, : len(sequence)] = 1
    return input_ids.to(device), attention_mask.to(device)
