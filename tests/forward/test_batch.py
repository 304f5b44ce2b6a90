"""Right padding."""

from __future__ import annotations

import pytest
import torch

from candor.forward.batch import right_pad


def test_shorter_sequences_are_padded_on_the_right_and_masked() -> None:
    input_ids, attention_mask = right_pad([[7, 0, 9], [4]], "cpu")
    assert input_ids.tolist() == [[7, 0, 9], [4, 0, 0]]
    assert attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]  # a real id 0 is not masked
    assert input_ids.dtype == attention_mask.dtype == torch.int64


@pytest.mark.parametrize("sequences", [[], [[1], []]])
def test_nothing_to_pad_is_refused(sequences: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        right_pad(sequences, "cpu")
