"""One batch as the trunk computes it: padded, or packed so that a shared prefix is computed once.

`padded` and `packed` both return a `Forward`. It holds the arguments of the trunk's forward call,
and says where the response tokens and each sequence's last token lie in the trunk's output,
flattened to [positions, hidden]. Reading activations needs nothing else, so probes are fitted on
the very forward that serves them. A packed batch needs a model that runs
`candor.forward.packed_attention`; `candor.engines.choose` checks that a model can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from candor.forward.packed_attention import PackedLayout
from candor.forward.prefix import CachedTokens, lay_out
from candor.forward.prefix_kv import CachedPrefix, KeyValues

Spans = Sequence[tuple[int, int]]
"""[start, end) of each sequence's response, in tokens."""


@dataclass(frozen=True, eq=False)
class Forward:
    """How the trunk computes one batch.

    Attributes:
        inputs: arguments of the trunk's forward call, by name.
        positions: [distinct response tokens] int64: where they lie in the trunk's activations,
            flattened to [positions, hidden].
        order: [response tokens] int64, sequence after sequence: for each response token, its index
            in `positions`. Equal sequences share theirs.
        last: [sequences] int64, positions of the last tokens.
        num_tokens: tokens that the trunk computes, padding included.
        num_cached_tokens: distinct tokens whose keys and values come from cached prefixes; the
            trunk does not compute them.
        kept_prefixes: by sequence number, the keys and values of the first tokens that `packed` was
            asked to keep. They are complete once the forward has run.
    """

    inputs: dict[str, Any]
    positions: Tensor
    order: Tensor
    last: Tensor
    num_tokens: int
    num_cached_tokens: int = 0
    kept_prefixes: Mapping[int, CachedPrefix] = field(default_factory=dict)


def padded(sequences: Sequence[Sequence[int]], spans: Spans, device: torch.device) -> Forward:
    """The sequences as rows, padded on the right to the longest; nothing is shared.

    Raises:
        ValueError: there is no sequence, or a sequence is empty.
    """
    input_ids, attention_mask = right_pad(sequences, device)
    row_starts = range(0, input_ids.numel(), input_ids.shape[1])
    responses = chain.from_iterable(
        range(row + start, row + end) for row, (start, end) in zip(row_starts, spans, strict=True)
    )
    last = (row + len(ids) - 1 for row, ids in zip(row_starts, sequences, strict=True))
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": False}
    return _forward(inputs, responses, last, input_ids.numel(), device)


def packed(
    sequences: Sequence[Sequence[int]],
    spans: Spans,
    device: torch.device,
    keys: Sequence[bytes] | None = None,
    cached_prefixes: Sequence[CachedPrefix | None] | None = None,
    to_keep: Mapping[int, int] | None = None,
    *,
    read_last_layer: bool = True,
) -> Forward:
    """One sequence without padding in which every distinct prefix occurs once
    (`candor.forward.prefix`).

    Args:
        keys: `candor.forward.prefix.sort_key` of each sequence; computed here where not given.
        cached_prefixes: for each sequence, a prefix of it whose keys and values were kept from an
            earlier forward, or None. Tokens of it that come before the response and before the last
            token are not computed again.
        to_keep: sequence number -> how many of its first tokens' keys and values to keep.
        read_last_layer: whether response tokens of the last block's output will be read. If not,
            only each sequence's last token is, and the last block may compute that token alone.

    Raises:
        ValueError: there is no sequence, or a sequence is empty.
    """
    cached_tokens = []
    if cached_prefixes is not None:
        for prefix, (start, _), ids in zip(cached_prefixes, spans, sequences, strict=True):
            length = prefix.num_tokens if prefix else 0
            cached_tokens.append(CachedTokens(length, min(start, len(ids) - 1)))
    layout = lay_out(sequences, keys, cached_tokens)
    states = None
    if to_keep or layout.cached_from:
        states = KeyValues(layout, cached_prefixes or (), to_keep or {}, device)
    num_cached = layout.num_cached_tokens
    responses = chain.from_iterable(
        (index - num_cached for index in layout.indices(number, start, end))
        for number, (start, end) in enumerate(spans)
    )
    last = (
        next(layout.indices(number, len(ids) - 1, len(ids))) - num_cached
        for number, ids in enumerate(sequences)
    )
    packed_layout = PackedLayout(layout, device, states)
    inputs = {
        "input_ids": _indices(layout.token_ids[num_cached:], device)[None],
        "position_ids": _indices(layout.positions[num_cached:], device)[None],
        "use_cache": False,
        "packed_layout": packed_layout,
    }
    forward = _forward(inputs, responses, last, layout.num_tokens, device)
    read_tokens = [forward.last, forward.positions] if read_last_layer else [forward.last]
    packed_layout.set_read_tokens(torch.unique(torch.cat(read_tokens)))
    kept_prefixes = states.kept_prefixes if states else {}
    return replace(forward, num_cached_tokens=num_cached, kept_prefixes=kept_prefixes)


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


def _forward(
    inputs: dict[str, Any],
    responses: Iterable[int],
    last: Iterable[int],
    num_tokens: int,
    device: torch.device,
) -> Forward:
    positions, order = torch.unique(_indices(responses, device), return_inverse=True)
    return Forward(inputs, positions, order, _indices(last, device), num_tokens)


def _indices(values: Iterable[int], device: torch.device) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int64, device=device)
