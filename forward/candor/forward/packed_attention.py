"""Attention over a `Layout`: a segment attends causally to itself, and to those that lead to it.

Stock attention must not be used on this layout. transformers' sdpa and flash attention take every
position that does not follow its predecessor for the start of a new sequence, and responses 2 to N
silently lose their prompt. So Candor registers an attention function under a name of its own in
transformers' `AttentionInterface`, which every decoder of that library goes through. The function
gets the layout from the forward's keyword arguments and refuses to run without one.

CPU: the compiled kernel (`candor.forward.native`), where it was built.
GPU: flex attention (`candor.forward.flex_attention`).
Otherwise (other dtypes, soft-capped scores on a CPU, gradients): torch, one call per segment.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
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

HARMLESS = frozenset(
    {"cache_position", "output_attentions", "output_hidden_states", "position_embeddings"}
    | {"position_ids", "use_cache"}
)
"""Arguments that models pass to every attention, and that change no score: used before it, or
not at all."""

KNOWN = frozenset({"is_causal", "packed_layout", "scaling", "sliding_window", "softcap"})
"""Arguments that `packed_attention` obeys."""

NAME = "candor_packed"
"""Selects this function: `model.set_attn_implementation(NAME)`."""


class UnsupportedAttention(ValueError):
    """The model needs an attention that is not computed here."""


@dataclass(frozen=True, eq=False)
class Queries:
    """The tokens whose attention is computed, in packed order.

    Attributes:
        table: [segments, 7] int32, the `segments` of `candor.forward.native.Kernel.attention`.
        positions: [queries] int32, each token's place in its sequence.
        tokens: [queries] int64 on the model's device, indices among all computed tokens; None where
            all computed tokens are queries.
    """

    table: Tensor
    positions: Tensor
    tokens: Tensor | None = None


class PackedLayout:
    """A layout as the attention of one forward reads it; masks are made once for all blocks.

    Args:
        states: keys and values of the layout's cached segments, and those to keep from this
            forward; None where there are neither.
    """

    def __init__(
        self, layout: Layout, device: torch.device, states: KeyValues | None = None
    ) -> None:
        self.segments = layout.segments
        self._num_cached_tokens = layout.num_cached_tokens
        self.states = states
        self._device = device
        self._masks: dict[tuple[int, int, int | None], Tensor] = {}
        self._block_masks: dict[tuple[bool, int | None], BlockMask] = {}
        self.before = _int32([n for segment in layout.segments for n in segment.before])
        self._places = layout.positions[self._num_cached_tokens :]
        self.all = self._queries(range(len(self._places)))
        self.read_queries: Queries | None = None

    def set_read_tokens(self, tokens: Tensor) -> None:
        """Says which computed tokens of the last block will be read: [n] int64, ascending. Blocks
        taken over by `candor.forward.blocks` then compute no others in the last block."""
        self.read_queries = replace(self._queries(tokens.tolist()), tokens=tokens)

    def _queries(self, tokens: Sequence[int]) -> Queries:
        rows, first, num_before = [], 0, 0
        for segment in self.segments:
            end = bisect_left(tokens, segment.end - self._num_cached_tokens, lo=first)
            keys = segment.start, segment.end - segment.start
            before = num_before, len(segment.before)
            rows.append((*keys, segment.depth, first, end - first, *before))
            first, num_before = end, num_before + len(segment.before)
        positions = _int32([self._places[token] for token in tokens])
        return Queries(_int32(rows), positions)

    def mask(self, num_before: int, num_own: int, window: int | None) -> Tensor:
        """[num_own, num_before + num_own] bool: the keys that each of a segment's tokens sees."""
        key = (num_before, num_own, window)
        if key not in self._masks:
            shape = num_own, num_before + num_own
            mask = torch.ones(shape, dtype=torch.bool, device=self._device).tril_(num_before)
            if window is not None:
                mask = mask.triu_(num_before - window + 1)
            self._masks[key] = mask
        return self._masks[key]

    def block_mask(self, queries: Queries, window: int | None) -> BlockMask:
        """The mask of all segments at once, for flex attention."""
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
        attention_mask: not used; the layout determines which keys a query sees.
        sliding_window: how many tokens a token attends to, itself included; None: all before it.
        softcap: Gemma 2's cap on the attention scores.
        queries: the tokens in `query`; None: all T.

    Returns:
        [1, queries, heads, head_dim of the values].

    Raises:
        UnsupportedAttention: the call has no layout, or an argument that may change the scores and
            is not known here.
    """
    if packed_layout is None:
        raise UnsupportedAttention("packed attention was called without a layout")
    if reason := why_unknown(module, others):
        raise UnsupportedAttention(f"{type(module).__name__} {reason}")
    if packed_layout.states is not None:
        key, value = packed_layout.states.extend(int(module.layer_idx), key, value)  # type: ignore[arg-type]
    queries = queries or packed_layout.all
    kernel = native.kernel()
    # Latent attention (DeepSeek) has values of another size than its keys.
    square = value.shape[-1] == query.shape[-1]
    if kernel is not None and softcap is None and square and kernel.can(query):
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


def why_unknown(module: nn.Module, arguments: Mapping[str, Any]) -> str | None:
    """Why an attention call with these arguments is not one that `packed_attention` computes."""
    if arguments.get("is_causal", getattr(module, "is_causal", True)) is False:
        return "is not causal"
    known = HARMLESS | KNOWN
    for name, value in arguments.items():
        if name not in known and value is not None and not (name == "dropout" and value == 0):
            return "has attention sinks" if name == "s_aux" else f"gives its attention {name!r}"
    return None


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
    """Packed attention by torch's own attention, one call per segment."""
    # Repeated here once: inside the loop each segment would repeat the key/value heads again.
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    out = query.new_empty(*query.shape[:3], value.shape[-1])
    for segment, row in zip(packed_layout.segments, queries.table.tolist(), strict=True):
        num_queries = row[native.NUM_QUERIES]
        if num_queries == 0:
            continue
        asking = slice(row[native.FIRST_QUERY], row[native.FIRST_QUERY] + num_queries)
        own = slice(segment.start, segment.end)
        leading = [packed_layout.segments[number] for number in segment.before]
        spans = [*(slice(other.start, other.end) for other in leading), own]
        keys, values = _gather(key, spans), _gather(value, spans)
        num_own = segment.end - segment.start
        # A window at least as long as the sequence masks nothing.
        window = sliding_window if (sliding_window or 0) < segment.depth + num_own else None
        partial = num_queries < num_own  # not every token of the segment is a query
        mask = None
        if segment.before or window is not None or softcap is not None or partial:
            mask = packed_layout.mask(segment.depth, num_own, window)
        if mask is not None and partial:
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
    """The code that computes this model's packed attention, for the log: flex, native-avx2, sdpa,
    ..."""
    if model.device.type == "cuda":
        return "flex" if flex_attention.available() else "sdpa"
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None):
        return "sdpa"
    return native.name(model.dtype)


AttentionInterface.register(NAME, packed_attention)
