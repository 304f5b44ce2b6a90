"""Flex attention against torch's own, segment by segment."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from candor.forward import flex_attention
from candor.forward.packed_attention import PackedLayout, packed_attention
from candor.forward.prefix import lay_out
from tests.forward.kernels import computed_by
from tests.forward.layouts import CPU, HEADS, sequences, states


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_what_a_gpu_runs_is_exact(softcap: float | None) -> None:
    """Flex attention uncompiled, on the CPU: the masks and the cap, not the speed."""
    for seed, (heads, window) in enumerate(zip(HEADS, (None, 1, 5, 33, None), strict=True)):
        layout = lay_out(sequences(seed))
        query, key, value = states(layout, heads, 16, torch.float32)
        packed = PackedLayout(layout, CPU)
        packed.set_read_tokens(torch.arange(2, layout.num_tokens, 7))
        assert packed.read_queries is not None
        for queries in (packed.all, packed.read_queries):
            asking = query if queries.tokens is None else query[:, :, queries.tokens]
            mask = packed.block_mask(queries, window)
            found = flex_attention.attend(asking, key, value, mask, 0.25, softcap)
            with computed_by("torch"):
                expected, _ = packed_attention(
                    nn.Identity(), asking, key, value, None, scaling=0.25, packed_layout=packed,
                    sliding_window=window, softcap=softcap, queries=queries,
                )  # fmt: skip
            assert torch.allclose(found, expected, atol=1e-5)
