"""Packed attention on a GPU: torch's flex attention, told by a block mask who sees whom.

One call a layer whatever the number of segments; blocks of the mask in which nobody sees anybody
are not computed. Compiled by torch on first use. Uncompiled it computes every score and is only a
reference: that is how the tests run it, on a CPU. No speed was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from candor.forward.prefix import Segment


def block_mask(
    segments: tuple[Segment, ...], table: Tensor, positions: Tensor, window: int | None,
    device: torch.device,
) -> BlockMask:  # fmt: skip
    """Which key each query sees: those of its segment and of the segments that lead to it, up to
    its own place and, with a window, not further back than that.

    Args:
        table, positions: of the queries, as `candor.forward.packed_attention.Queries` has them.
    """
    numbers = torch.arange(len(segments))
    key_segment = numbers.repeat_interleave(table[:, 1].long()).to(device)
    query_segment = numbers.repeat_interleave(table[:, 4].long()).to(device)
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

    def capped(score: Tensor, batch: Tensor, head: Tensor, one: Tensor, other: Tensor) -> Tensor:
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
