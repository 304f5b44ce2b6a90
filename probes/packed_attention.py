"""Attention over a `Layout`: every segment sees the segments that lead to it, and itself causally.

Stock attention must not be used on this layout. transformers' sdpa and flash attention take every
position that does not follow its predecessor for the start of a new sequence, and responses 2 to N
silently lose their prompt. So this is an attention function of its own, under a name of its own, in
transformers' `AttentionInterface`, which every decoder of the library goes through; it is handed
the layout through the forward's keyword arguments and refuses to run without one.

On a CPU a compiled kernel does the work (`probes.native`) where there is one; torch's own
attention, segment by segment, does the rest: other dtypes, soft-capped scores, gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from probes import native
from probes.prefix import Layout

NAME = "candor_packed"
"""Selects this function: `model.set_attn_implementation(NAME)`."""


class UnsupportedAttention(ValueError):
    """The model asks for an attention that is not computed here."""


class PackedLayout:
    """A layout as the attention of one forward reads it; masks are made once for all its blocks."""

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self.segments = layout.segments
        self._device = device
        self._masks: dict[tuple[int, int, int | None], Tensor] = {}
        self.table, self.before = _table(layout)
        self.positions = torch.tensor(layout.positions, dtype=torch.int32)

    def mask(self, num_before: int, num_own: int, window: int | None) -> Tensor:
        """[num_own, num_before + num_own] bool: what each of a segment's tokens may look at."""
        key = (num_before, num_own, window)
        if key not in self._masks:
            shape = num_own, num_before + num_own
            mask = torch.ones(shape, dtype=torch.bool, device=self._device).tril_(num_before)
            if window is not None:
                mask = mask.triu_(num_before - window + 1)
            self._masks[key] = mask
        return self._masks[key]


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    packed_layout: PackedLayout | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """An attention function as `AttentionInterface` calls it.

    Args:
        query: [1, heads, T, head_dim].
        key, value: [1, key/value heads, T, head_dim].
        attention_mask: none; the layout says who sees whom.
        sliding_window: tokens a token may look back on, itself included.
        softcap: Gemma 2's cap on the scores.

    Returns:
        [1, T, heads, head_dim].

    Raises:
        UnsupportedAttention: attention sinks, or a call without a layout.
    """
    if packed_layout is None:
        raise UnsupportedAttention("packed attention was called without a layout")
    if others.get("s_aux") is not None:
        raise UnsupportedAttention("attention sinks")
    kernel = native.kernel()
    if kernel is not None and softcap is None and kernel.can(query):
        out = kernel.attention(
            query,
            key,
            value,
            packed_layout.table,
            packed_layout.before,
            packed_layout.positions,
            scaling=scaling,
            window=sliding_window,
            num_threads=torch.get_num_threads(),
        )
        return out, None
    # Before the loop: a repeat of the key/value heads that each segment would do again.
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    out = torch.empty_like(query)
    for segment in packed_layout.segments:
        own = slice(segment.start, segment.end)
        seen = [packed_layout.segments[number] for number in segment.before]
        spans = [*(slice(one.start, one.end) for one in seen), own]
        keys, values = _gather(key, spans), _gather(value, spans)
        num_own = segment.end - segment.start
        # A window that reaches back over everything masks nothing.
        window = sliding_window if (sliding_window or 0) < segment.depth + num_own else None
        mask = None
        if segment.before or window is not None or softcap is not None:
            mask = packed_layout.mask(segment.depth, num_own, window)
        if softcap is not None:
            assert mask is not None
            out[:, :, own] = _capped(query[:, :, own], keys, values, mask, scaling, softcap)
        else:
            out[:, :, own] = scaled_dot_product_attention(
                query[:, :, own], keys, values, mask, is_causal=mask is None, scale=scaling
            )
    return out.transpose(1, 2).contiguous(), None


def _table(layout: Layout) -> tuple[Tensor, Tensor]:
    """The segments as `probes.native.Kernel.attention` reads them, every token a query."""
    rows, before = [], []
    for one in layout.segments:
        length = one.end - one.start
        rows.append((one.start, length, one.depth, one.start, length, len(before), len(one.before)))
        before.extend(one.before)
    return torch.tensor(rows, dtype=torch.int32), torch.tensor(before, dtype=torch.int32)


def _gather(states: Tensor, spans: list[slice]) -> Tensor:
    if len(spans) == 1:
        return states[:, :, spans[0]]
    return torch.cat([states[:, :, span] for span in spans], dim=2)


def _capped(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, softcap: float
) -> Tensor:
    """Attention with soft-capped scores, which `scaled_dot_product_attention` does not have."""
    scores = query @ key.transpose(-1, -2) * scaling
    scores = (softcap * torch.tanh(scores / softcap)).masked_fill(~mask, float("-inf"))
    return scores.softmax(-1, dtype=torch.float32).to(query.dtype) @ value


AttentionInterface.register(NAME, packed_attention)
