"""One pass over labelled responses: the model's hidden states at the response tokens, and R.

`read_responses` hands them to whoever asked, batch by batch; `collect` keeps the mean over each
response's tokens and nothing else: 2,000 sequences x 30 layers x 576 floats are 140 MB; all their
tokens would be some 20 GB. A probe is affine, so its mean token logit is its logit at the mean,
which is also what the paper trains on. Whoever needs the tokens keeps them on disk
(`candor.probes.fitting.activations`). No model is loaded here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from candor.forward import batch as forward
from candor.forward.batch import Forward
from candor.forward.capture import Reader, read_hidden_states
from candor.forward.head import decoder, head_logits
from candor.forward.prefix import common

Sequences = Sequence[tuple[Sequence[int], int, int]]
"""(token_ids, start, end) each: the probe reads tokens [start, end), R is read at the last one."""

Floats = NDArray[np.float32]
Progress = Callable[[int], object]
"""Called with how much is newly done; what it returns is ignored."""

Keep = Callable[[int, list[int], Tensor], object]
"""Called with a layer, the sequences of a batch and their tokens' hidden states, one sequence after
the other: [tokens read, hidden] in the model's dtype, on its device."""


@dataclass(frozen=True)
class Activations:
    """In the order of the sequences.

    means: layer -> [n, hidden] float32, the mean over the response's tokens.
    rewards: [n] float32, the base reward R.
    """

    means: dict[int, Floats]
    rewards: Floats


def collect(
    model: nn.Module,
    sequences: Sequences,
    layers: Sequence[int],
    *,
    batch_tokens: int = 4096,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Activations:
    """The mean over each response's tokens, by layer, from one forward over every sequence.

    Args:
        model, sequences, layers, batch_tokens, names, progress: as `read_responses`.

    Raises:
        ValueError: as `read_responses`.
    """
    kept: dict[int, Floats] = {}

    def mean(layer: int, batch: list[int], hidden: Tensor) -> None:
        lengths = [sequences[index][2] - sequences[index][1] for index in batch]
        means = torch.stack(
            [part.mean(0, dtype=torch.float32) for part in torch.split(hidden, lengths)]
        )
        if layer not in kept:
            kept[layer] = np.empty((len(sequences), means.shape[1]), dtype=np.float32)
        kept[layer][batch] = means.cpu().numpy()

    rewards = read_responses(
        model, sequences, layers, mean, batch_tokens=batch_tokens, names=names, progress=progress
    )
    return Activations(kept, rewards)


@torch.inference_mode()
def read_responses(
    model: nn.Module,
    sequences: Sequences,
    layers: Sequence[int],
    keep: Keep,
    *,
    packed: bool = False,
    batch_tokens: int = 4096,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Floats:
    """One forward over every sequence, in batches; R of each, [n] float32.

    Args:
        model: a reward model in eval mode with a one-label head (`candor.forward.head`).
        layers: indices into hidden_states.
        keep: called inside the forward, once a batch and layer.
        packed: the model runs `candor.forward.packed_attention`: what sequences begin with alike is
            computed once a batch. Otherwise batches are of similar length and padded.
        batch_tokens: tokens computed per forward; a longer sequence goes alone.
        names: how messages name each sequence, e.g. file:line.
        progress: called after each batch with the number of sequences it held.

    Raises:
        ValueError: no sequence; a response span that is empty or outside its sequence; a layer the
            model does not have; activations or a reward that are not finite.
    """
    device = next(model.parameters()).device
    named = names or [f"sequence {index}" for index in range(len(sequences))]
    rewards = np.empty(len(sequences), dtype=np.float32)
    _check_spans(sequences, named)
    for batch in (_alike if packed else _as_long)(sequences, batch_tokens):
        ids = [sequences[index][0] for index in batch]
        spans = [sequences[index][1:] for index in batch]
        one = (forward.packed if packed else forward.padded)(ids, spans, device)
        readers = {layer: _reader(layer, batch, spans, one, keep, named) for layer in layers}
        with read_hidden_states(model, readers):
            output = decoder(model)(**one.inputs)
        found = head_logits(model, output.last_hidden_state.flatten(0, 1)[one.last])
        _refuse_non_finite("the base reward", found[:, None], [1] * len(batch), batch, named)
        rewards[batch] = found.cpu().numpy()
        if progress is not None:
            progress(len(batch))
    return rewards


def _reader(
    layer: int,
    batch: list[int],
    spans: Sequence[tuple[int, int]],
    one: Forward,
    keep: Keep,
    named: Sequence[str],
) -> Reader:
    """Cuts inside the hook, so that a layer's padding and context never outlive it."""
    lengths = [end - start for start, end in spans]

    def read(hidden: Tensor) -> None:
        tokens = hidden.flatten(0, 1)[one.positions][one.order]
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


def _as_long(sequences: Sequences, batch_tokens: int) -> Iterator[list[int]]:
    """Indices, longest first: if memory does not suffice, that shows in the first batch."""
    by_length = sorted(range(len(sequences)), key=lambda index: -len(sequences[index][0]))
    batch: list[int] = []
    for index in by_length:
        if batch and (len(batch) + 1) * len(sequences[batch[0]][0]) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    yield batch


def _alike(sequences: Sequences, batch_tokens: int) -> Iterator[list[int]]:
    """Indices in the order of the token ids, so that those with a common beginning go together."""
    order = sorted(range(len(sequences)), key=lambda index: tuple(sequences[index][0]))
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
    what: str, values: Tensor, lengths: list[int], batch: list[int], named: Sequence[str]
) -> None:
    """`values` [sum(lengths), ...] must be finite; else the first sequence that is not is named."""
    if bool(torch.isfinite(values).all()):
        return
    for index, part in zip(batch, torch.split(values, lengths), strict=True):
        if not bool(torch.isfinite(part).all()):
            raise ValueError(
                f"{named[index]}: {what} is not finite; float16 overflows in some models: try "
                "bfloat16 or float32"
            )
