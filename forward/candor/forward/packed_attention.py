"""Attention over a `Layout`: every segment sees the segments that lead to it, and itself causally.

Stock attention must not be used on this layout. transformers' sdpa and flash attention take every
position that does not follow its predecessor for the start of a new sequence, and responses 2 to N
silently lose their prompt. So this is an attention function of its own, under a name of its own, in
transformers' `AttentionInterface`, which every decoder of the library goes through; it is handed
the layout through the forward's keyword arguments and refuses to run without one.

On a CPU a compiled kernel does the work (`candor.forward.native`) where there is one, on a GPU flex
attention (`candor.forward.flex_attention`); torch's own attention, segment by segment, does the
rest: without either, other dtypes, soft-capped scores on a CPU, gradients.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from candor.forward import flex_attention, native
from candor.forward.prefix import Layout
from candor.forward.prefix_kv import KeyValues

NAME = "candor_packed"
"""Selects this function: `model.set_attn_implementation(NAME)`."""


class UnsupportedAttention(ValueError):
    """The model asks for an attention that is not computed here."""


@dataclass(frozen=True, eq=False)
class Queries:
    """The tokens that ask, in packed order.

    Attributes:
        table: [segments, 7] int32 as `candor.forward.native.Kernel.attention` reads it; columns 3
            and 4
            are a segment's range of queries.
        positions: [queries] int32, each token's place in its sequence.
        tokens: [queries] int64 on the model's device, where they lie among all computed tokens;
            None: they are all of them.
    """

    table: Tensor
    positions: Tensor
    tokens: Tensor | None = None


class PackedLayout:
    """A layout as the attention of one forward reads it; masks are made once for all its blocks.

    Args:
        states: of the layout's known segments, and what is kept of this forward; None where there
            is neither.
    """

    def __init__(
        self, layout: Layout, device: torch.device, states: KeyValues | None = None
    ) -> None:
        self.segments = layout.segments
        self.num_known = layout.num_known
        self.states = states
        self._device = device
        self._masks: dict[tuple[int, int, int | None], Tensor] = {}
        self._block_masks: dict[tuple[bool, int | None], BlockMask] = {}
        self.before = _int32([number for one in layout.segments for number in one.before])
        self._places = layout.positions[self.num_known :]
        self.all = self._queries(range(len(self._places)))
        self.read: Queries | None = None

    def announce(self, read: Tensor) -> None:
        """Says which computed tokens anybody will read of the last block, [n] int64, ascending:
        a forward that knows how (`candor.forward.blocks`) spares that block the others."""
        self.read = replace(self._queries(read.tolist()), tokens=read)

    def _queries(self, tokens: Sequence[int]) -> Queries:
        rows, first, num_before = [], 0, 0
        for one in self.segments:
            end = bisect_left(tokens, one.end - self.num_known, lo=first)
            queries = first, end - first
            before = num_before, len(one.before)
            rows.append((one.start, one.end - one.start, one.depth, *queries, *before))
            first, num_before = end, num_before + len(one.before)
        positions = _int32([self._places[token] for token in tokens])
        return Queries(_int32(rows), positions)

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

    def block_mask(self, queries: Queries, window: int | None) -> BlockMask:
        """The same for flex attention, of all segments at once."""
        key = (queries is self.all, window)
        if key not in self._block_masks:
            self._block_masks[key] = flex_attention.block_mask(
                self.segments, queries.table, queries.positions, window, self._device
            )
        return self._block_masks[key]


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
    queries: Queries | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """An attention function as `AttentionInterface` calls it.

    Args:
        query: [1, heads, queries, head_dim].
        key, value: [1, key/value heads, T, head_dim], T computed tokens.
        attention_mask: none; the layout says who sees whom.
        sliding_window: tokens a token may look back on, itself included.
        softcap: Gemma 2's cap on the scores.
        queries: which tokens ask; None: all T.

    Returns:
        [1, queries, heads, head_dim].

    Raises:
        UnsupportedAttention: attention sinks, or a call without a layout.
    """
    if packed_layout is None:
        raise UnsupportedAttention("packed attention was called without a layout")
    if others.get("s_aux") is not None:
        raise UnsupportedAttention("attention sinks")
    if packed_layout.states is not None:
        key, value = packed_layout.states.extend(int(module.layer_idx), key, value)  # type: ignore[arg-type]
    queries = queries or packed_layout.all
    kernel = native.kernel()
    if kernel is not None and softcap is None and kernel.can(query):
        out = kernel.attention(
            query,
            key,
            value,
            queries.table,
            packed_layout.before,
            queries.positions,
            scaling=scaling,
            window=sliding_window,
            num_threads=torch.get_num_threads(),
        )
        return out, None
    if query.is_cuda and flex_attention.available():
        mask = packed_layout.block_mask(queries, sliding_window)
        return flex_attention.attend(query, key, value, mask, scaling, softcap), None
    out = _by_segment(query, key, value, packed_layout, queries, scaling, sliding_window, softcap)
    return out, None


def _by_segment(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packed_layout: PackedLayout,
    queries: Queries,
    scaling: float,
    sliding_window: int | None,
    softcap: float | None,
) -> Tensor:
    """The same with torch's own attention, one call a segment."""
    # Before the loop: a repeat of the key/value heads that each segment would do again.
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    out = torch.empty_like(query)
    for segment, row in zip(packed_layout.segments, queries.table.tolist(), strict=True):
        asking = slice(row[3], row[3] + row[4])
        if row[4] == 0:
            continue
        own = slice(segment.start, segment.end)
        seen = [packed_layout.segments[number] for number in segment.before]
        spans = [*(slice(one.start, one.end) for one in seen), own]
        keys, values = _gather(key, spans), _gather(value, spans)
        num_own = segment.end - segment.start
        # A window that reaches back over everything masks nothing.
        window = sliding_window if (sliding_window or 0) < segment.depth + num_own else None
        few = row[4] < num_own
        mask = None
        if segment.before or window is not None or softcap is not None or few:
            mask = packed_layout.mask(segment.depth, num_own, window)
        if mask is not None and few:
            mask = mask[(queries.positions[asking] - segment.depth).to(mask.device)]
        if softcap is not None:
            assert mask is not None
            out[:, :, asking] = _capped(query[:, :, asking], keys, values, mask, scaling, softcap)
        else:
            out[:, :, asking] = scaled_dot_product_attention(
                query[:, :, asking], keys, values, mask, is_causal=mask is None, scale=scaling
            )
    return out.transpose(1, 2).contiguous()


def _int32(values: Sequence[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


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


def attention_path(model: PreTrainedModel) -> str:
    """What computes this model's packed attention, for the log: flex, native-avx2, sdpa, ..."""
    if model.device.type == "cuda":
        return "flex" if flex_attention.available() else "sdpa"
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None):
        return "sdpa"
    return native.name(model.dtype)


AttentionInterface.register(NAME, packed_attention)
