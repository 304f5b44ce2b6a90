"""One batch on its way through the trunk: padded, or packed, a shared prefix computed once.

Either says what the trunk is called with, and where the response tokens and each sequence's last
token lie in what comes out, flattened to [positions, hidden]. Whoever reads activations needs no
more, so probes are fitted on the very forward that serves them. Packing needs the model to run
`candor.forward.packed_attention`; whether it may is checked where models are loaded
(`candor.engines.choose`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from candor.forward.collate import right_pad
from candor.forward.packed_attention import PackedLayout
from candor.forward.prefix import lay_out
from candor.forward.prefix_kv import KeyValues, Prefix

Spans = Sequence[tuple[int, int]]
"""[start, end) of each sequence's response, in tokens."""


@dataclass(frozen=True, eq=False)
class Forward:
    """How one batch is computed.

    Attributes:
        inputs: what the trunk is called with, by name.
        positions: [distinct response tokens] int64: where they lie in the trunk's activations,
            flattened to [positions, hidden].
        order: [response tokens] int64, sequence after sequence: which of `positions` each is.
            Equal sequences share theirs.
        last: [sequences] int64, positions of the last tokens.
        num_tokens: tokens that the trunk computes, padding included.
        num_known: tokens of distinct prefixes that are looked at and not computed.
        kept: by sequence, the keys and values of its first tokens, once the forward has run.
    """

    inputs: dict[str, Any]
    positions: Tensor
    order: Tensor
    last: Tensor
    num_tokens: int
    num_known: int = 0
    kept: Mapping[int, Prefix] = field(default_factory=dict)


def padded(sequences: Sequence[Sequence[int]], spans: Spans, device: torch.device) -> Forward:
    """Right-padded to the longest; shares nothing.

    Raises:
        ValueError: no sequence, or an empty one.
    """
    input_ids, attention_mask = right_pad(sequences, device)
    rows = range(0, input_ids.numel(), input_ids.shape[1])
    responses = chain.from_iterable(
        range(row + start, row + end) for row, (start, end) in zip(rows, spans, strict=True)
    )
    last = (row + len(ids) - 1 for row, ids in zip(rows, sequences, strict=True))
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": False}
    return _forward(inputs, responses, last, input_ids.numel(), device)


def packed(
    sequences: Sequence[Sequence[int]],
    spans: Spans,
    device: torch.device,
    keys: Sequence[bytes] | None = None,
    prefixes: Sequence[Prefix | None] | None = None,
    keep: Mapping[int, int] | None = None,
    *,
    read_last_layer: bool = True,
) -> Forward:
    """One sequence without padding in which every distinct prefix occurs once
    (`candor.forward.prefix`).

    Args:
        keys: `candor.forward.prefix.sort_key` of each sequence, where known.
        prefixes: the known prefix of each sequence: its tokens before the response and before the
            last token are looked at, not computed.
        keep: by sequence, how many of its first tokens' keys and values to keep.
        read_last_layer: the response tokens of the last block's output will be read, not only
            each sequence's last token: of no other token need it be computed.

    Raises:
        ValueError: no sequence, or an empty one.
    """
    known = []
    if prefixes is not None:
        for prefix, (start, _), ids in zip(prefixes, spans, sequences, strict=True):
            known.append((prefix.num_tokens if prefix else 0, min(start, len(ids) - 1)))
    layout = lay_out(sequences, keys, known)
    states = None
    if keep or layout.known:
        states = KeyValues(layout, prefixes or (), keep or {}, device)
    skipped = layout.num_known
    responses = chain.from_iterable(
        (place - skipped for place in layout.indices(number, start, end))
        for number, (start, end) in enumerate(spans)
    )
    last = (
        next(layout.indices(number, len(ids) - 1, len(ids))) - skipped
        for number, ids in enumerate(sequences)
    )
    packed_layout = PackedLayout(layout, device, states)
    inputs = {
        "input_ids": _indices(layout.token_ids[skipped:], device)[None],
        "position_ids": _indices(layout.positions[skipped:], device)[None],
        "use_cache": False,
        "packed_layout": packed_layout,
    }
    forward = _forward(inputs, responses, last, layout.num_tokens, device)
    read = [forward.last, forward.positions] if read_last_layer else [forward.last]
    packed_layout.announce(torch.unique(torch.cat(read)))
    return replace(forward, num_known=skipped, kept=states.kept if states else {})


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
