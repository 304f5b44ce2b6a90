"""Packed attention on a GPU: torch's flex attention with a block mask of the layout.

One call per layer, whatever the number of segments; blocks of the mask in which no query sees any
key are not computed. torch compiles it on first use. Uncompiled, on a CPU, it computes every score
and is only a reference for the tests. No speed was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from candor.forward.native import NUM_KEYS, NUM_QUERIES
from candor.forward.prefix import Segment


def block_mask(
    segments: tuple[Segment, ...], table: Tensor, positions: Tensor, window: int | None,
    device: torch.device,
) -> BlockMask:  # fmt: skip
    """The keys that each query sees: those of its own segment and of the segments that lead to it,
    up to the query's own place and, with a window, no further back than the window.

    Args:
        table, positions: those of `candor.forward.packed_attention.Queries`.
    """
    numbers = torch.arange(len(segments))
    key_segment = numbers.repeat_interleave(table[:, NUM_KEYS].long()).to(device)
    query_segment = numbers.repeat_interleave(table[:, NUM_QUERIES].long()).to(device)
    place = torch.cat([torch.arange(s.depth, s.depth + s.end - s.start) for s in segments])
    key_place, query_place = place.to(device), positions.long().to(device)
    leads = torch.eye(len(segments), dtype=torch.bool)
    for number, segment in enumerate(segments):
        leads[number, list(segment.before)] = True
    leads = leads.to(device)

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        back = query_place[query] - key_place[key]
        seen = leads[query_segment[query], key_segment[key]] & (back >= 0)
        return seen if window is None else seen & (back < window)

    return create_block_mask(sees, None, None, len(query_place), len(key_place), device=str(device))


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, scaling: float,
    softcap: float | None = None,
) -> Tensor:  # fmt: skip
    """[1, heads, queries, head_dim] -> [1, queries, heads, head_dim]."""

    def capped(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score if softcap is None else softcap * torch.tanh(score / softcap)

    run: Any = _compiled() if query.is_cuda else flex_attention
    out: Tensor = run(
        query,
        key,
        value,
        score_mod=None if softcap is None else capped,
        block_mask=mask,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out.transpose(1, 2).contiguous()


@cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(flex_attention, dynamic=True)


@cache
def available() -> bool:
    """Whether torch can compile for this machine's GPU."""
    from torch.utils._triton import has_triton

    return has_triton()
