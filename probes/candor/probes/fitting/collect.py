"""One pass over labelled responses: the model's hidden states at the response tokens, and R.

`read_responses` hands hidden states to its caller batch by batch. They are written to disk in
`candor.probes.fitting.activations`. No model is loaded here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from candor.forward import batch as forward
from candor.forward.batch import Forward
from candor.forward.capture import Reader, read_hidden_states
from candor.forward.company import Company
from candor.forward.head import head_logits
from candor.forward.prefix import common

Sequences = Sequence[tuple[Sequence[int], int, int]]
"""(token_ids, start, end) of each: a probe reads tokens [start, end), R is read at the last."""

Floats = NDArray[np.float32]
Progress = Callable[[int], object]
"""Called with the number of steps that were newly done."""

Keep = Callable[[int, list[int], Tensor], object]
"""Called with a layer, the numbers of a batch's sequences, and the hidden states of their response
tokens, sequence after sequence: [tokens, hidden] in the model's dtype, on the model's device."""


@torch.inference_mode()
def read_responses(
    model: nn.Module,
    sequences: Sequences,
    layers: Sequence[int],
    keep: Keep,
    *,
    packed: bool = False,
    company: Company | None = None,
    batch_tokens: int = 4096,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Floats:
    """Runs one forward over every sequence, in batches.

    Args:
        model: a reward model in eval mode with a one-label head (`candor.forward.head`).
        layers: indices into hidden_states.
        keep: called inside the forward, once per batch and layer.
        packed: the model runs `candor.forward.packed_attention`; a prefix that sequences share is
            computed once per batch. Otherwise batches hold sequences of similar length, padded.
        company: which sequences may share a batch; None: `Company(model)`.
        batch_tokens: most tokens per forward; a longer sequence is a batch of its own.
        names: names of the sequences for error messages, for example file:line.
        progress: called after each batch with the batch's number of sequences.

    Returns:
        R of each sequence, [n] float32.

    Raises:
        ValueError: there is no sequence; a response span is empty or outside its sequence; the
            model lacks a layer; activations or a reward are not finite.
    """
    device = next(model.parameters()).device
    named = names or [f"sequence {index}" for index in range(len(sequences))]
    rewards = np.empty(len(sequences), dtype=np.float32)
    _check_spans(sequences, named)
    company = company or Company(model)
    for batch in _batches(sequences, company, batch_tokens, packed=packed):
        ids = [sequences[index][0] for index in batch]
        spans = [sequences[index][1:] for index in batch]
        run = (forward.packed if packed else forward.padded)(ids, spans, device)
        readers = {layer: _reader(layer, batch, spans, run, keep, named) for layer in layers}
        with read_hidden_states(model, readers):
            hidden = company.run(run.inputs)
        found = head_logits(model, hidden.flatten(0, 1)[run.last])
        _refuse_non_finite("the base reward", found[:, None], [1] * len(batch), batch, named)
        rewards[batch] = found.cpu().numpy()
        if progress is not None:
            progress(len(batch))
    return rewards


def _reader(
    layer: int,
    batch: list[int],
    spans: Sequence[tuple[int, int]],
    run: Forward,
    keep: Keep,
    named: Sequence[str],
) -> Reader:
    """A reader that picks the response tokens inside the hook, so that hidden states of padding and
    context are freed at once."""
    lengths = [end - start for start, end in spans]

    def read(hidden: Tensor) -> None:
        tokens = hidden.flatten(0, 1)[run.positions][run.order]
        _refuse_non_finite(f"layer {layer}", tokens, lengths, batch, named)
        keep(layer, batch, tokens)

    return read


def _check_spans(sequences: Sequences, named: Sequence[str]) -> None:
    if not sequences:
        raise ValueError("no sequences to collect activations from")
    for name, (ids, start, end) in zip(named, sequences, strict=True):
        if not 0 <= start < end <= len(ids):
            raise ValueError(
                f"{name}: response [{start}, {end}) is empty or outside {len(ids)} tokens"
            )


def _batches(
    sequences: Sequences, company: Company, batch_tokens: int, *, packed: bool
) -> Iterator[list[int]]:
    """Batches of indices, each of sequences that may share a forward. The part with the longest
    sequence comes first: too little memory shows in the first batch."""
    parts = company.parts([len(ids) for ids, _, _ in sequences])
    parts.sort(key=lambda part: -max(len(sequences[index][0]) for index in part))
    for part in parts:
        yield from (_by_prefix if packed else _by_length)(sequences, part, batch_tokens)


def _by_length(sequences: Sequences, part: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Batches of indices, longest sequences first."""
    by_length = sorted(part, key=lambda index: -len(sequences[index][0]))
    batch: list[int] = []
    for index in by_length:
        if batch and (len(batch) + 1) * len(sequences[batch[0]][0]) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    yield batch


def _by_prefix(sequences: Sequences, part: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Batches of indices in the order of the token ids, so that shared prefixes go together."""
    order = sorted(part, key=lambda index: tuple(sequences[index][0]))
    batch: list[int] = []
    cost = 0
    for index in order:
        ids = sequences[index][0]
        new = len(ids) - (common(ids, sequences[batch[-1]][0]) if batch else 0)
        if batch and cost + new > batch_tokens:
            yield batch
            batch, cost, new = [], 0, len(ids)
        batch.append(index)
        cost += new
    yield batch


def _refuse_non_finite(
    kind: str, values: Tensor, lengths: list[int], batch: list[int], named: Sequence[str]
) -> None:
    """Raises ValueError unless all `values` [sum(lengths), ...] are finite, and names the first
    sequence with a value that is not."""
    if bool(torch.isfinite(values).all()):
        return
    for index, part in zip(batch, torch.split(values, lengths), strict=True):
        if not bool(torch.isfinite(part).all()):
            raise ValueError(
                f"{named[index]}: {kind} is not finite; float16 overflows in some models: try "
                "bfloat16 or float32"
            )
