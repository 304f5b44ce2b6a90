"""Activations for probe training: one pass over the sequences, all layers, one vector a response.

For each sequence and layer the mean of the hidden states over the response's tokens is kept,
nothing
else: 2,000 sequences x 30 layers x 576 floats are 140 MB; all their tokens would be some 20 GB. A
probe is affine, so its mean token logit is its logit at the mean, which is also what the paper
trains on. Other poolings of a fitted probe take a second pass, `pooled_scores`. No model is loaded
here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probes.capture import Reader, read_hidden_states
from probes.collate import right_pad
from probes.head import decoder, head_logits
from probes.probe import Probe

Sequences = Sequence[tuple[Sequence[int], int, int]]
"""(token_ids, response_start, response_end) each; the base reward is read at the last token."""

Floats = NDArray[np.float32]
Progress = Callable[[int], object]
"""Called with how much is newly done; what it returns is ignored."""

Keep = Callable[[Tensor], Tensor]
"""Hidden states of one response [T, hidden] -> what to keep of them, float32."""


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
    progress: Progress | None = None,
) -> Activations:
    """One forward over every sequence, in batches of similar length.

    Args:
        model: a reward model in eval mode with a one-label head (`probes.head`).
        layers: indices into hidden_states.
        batch_tokens: padded tokens per forward; a longer sequence goes alone.
        progress: called after each batch with the number of sequences it held.

    Raises:
        ValueError: no sequence; a response span that is empty or outside its sequence; a layer the
            model does not have; activations or a reward that are not finite.
    """

    def mean(hidden: Tensor) -> Tensor:
        return hidden.mean(0, dtype=torch.float32)

    return Activations(*_read(model, sequences, layers, mean, batch_tokens, progress))


def pooled_scores(
    model: nn.Module,
    sequences: Sequences,
    probe: Probe,
    *,
    batch_tokens: int = 4096,
    progress: Progress | None = None,
) -> Floats:
    """S of every sequence under the probe's own pooling, as serving reads it: [n] float32.

    Raises:
        ValueError: as `collect`.
    """
    probe = probe.to(next(model.parameters()).device)

    def score(hidden: Tensor) -> Tensor:
        return torch.tensor(probe.pool(probe.logits(hidden)))

    kept, _ = _read(model, sequences, [probe.layer], score, batch_tokens, progress)
    return kept[probe.layer]


@torch.inference_mode()
def _read(
    model: nn.Module,
    sequences: Sequences,
    layers: Sequence[int],
    keep: Keep,
    batch_tokens: int,
    progress: Progress | None,
) -> tuple[dict[int, Floats], Floats]:
    """What `keep` makes of each response, by layer, and the base rewards; in the callers' order."""
    device = next(model.parameters()).device
    kept: dict[int, Floats] = {}
    rewards = np.empty(len(sequences), dtype=np.float32)
    for batch in _batches(sequences, batch_tokens):
        ids = [sequences[index][0] for index in batch]
        spans = [sequences[index][1:] for index in batch]
        found: dict[int, Tensor] = {}
        readers = {layer: _reader(layer, spans, keep, found) for layer in layers}
        input_ids, attention_mask = right_pad(ids, device)
        with read_hidden_states(model, readers):
            output = decoder(model)(
                input_ids=input_ids, attention_mask=attention_mask, use_cache=False
            )
        last = torch.tensor([len(sequence) - 1 for sequence in ids], device=device)
        last_hidden = output.last_hidden_state[torch.arange(len(ids), device=device), last]
        rewards[batch] = head_logits(model, last_hidden).cpu().numpy()
        for layer, values in found.items():
            if layer not in kept:
                kept[layer] = np.empty((len(sequences), *values.shape[1:]), dtype=np.float32)
            kept[layer][batch] = values.cpu().numpy()
        if progress is not None:
            progress(len(batch))
    for layer, values_ in kept.items():
        _refuse_non_finite(f"layer {layer}", values_)
    _refuse_non_finite("the base reward", rewards)
    return kept, rewards


def _reader(
    layer: int, spans: Sequence[tuple[int, int]], keep: Keep, found: dict[int, Tensor]
) -> Reader:
    """Reduces inside the hook, so that a layer's full activations never outlive it."""

    def read(hidden: Tensor) -> None:
        responses = (hidden[row, start:end] for row, (start, end) in enumerate(spans))
        found[layer] = torch.stack([keep(response) for response in responses])

    return read


def _batches(sequences: Sequences, batch_tokens: int) -> Iterator[list[int]]:
    """Indices, longest first: if memory does not suffice, that shows in the first batch."""
    if not sequences:
        raise ValueError("no sequences to collect activations from")
    for index, (ids, start, end) in enumerate(sequences):
        if not 0 <= start < end <= len(ids):
            raise ValueError(
                f"sequence {index}: response [{start}, {end}) is empty or outside {len(ids)} tokens"
            )
    by_length = sorted(range(len(sequences)), key=lambda index: -len(sequences[index][0]))
    batch: list[int] = []
    for index in by_length:
        if batch and (len(batch) + 1) * len(sequences[batch[0]][0]) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    yield batch


def _refuse_non_finite(what: str, values: Floats) -> None:
    bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    if len(bad):
        raise ValueError(
            f"{what} is not finite for sequence {bad[0]} ({len(bad)} in all); float16 overflows in "
            "some models: try bfloat16 or float32"
        )
