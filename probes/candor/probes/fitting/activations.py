"""Activations of one pass on disk: every response token's hidden state, in the model's own dtype.

There is one raw file per layer, memory-mapped on reading. So a sweep never holds more than one
layer in memory, and a second probe on the same data needs no forward. The folder's name is a hash
of everything that determines the numbers (`activations_key`). Labels are not in it: relabelled rows
find their activations. Missing layers are added by another pass.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from candor.forward.company import Company
from candor.forward.head import decoder
from candor.probes.fitting.collect import Floats, Progress, Sequences, read_responses
from candor.probes.probe import Pooling, pooled

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LayerActivations:
    """One layer of n responses.

    Attributes:
        means: [n, hidden] float32, the mean over each response's tokens. A probe is affine, so its
            mean token logit is its logit at the mean; the paper (arXiv 2412.00967) trains on means.
        tokens: [all tokens, hidden] in the model's dtype, memory-mapped.
        bounds: [n + 1] int64; response i's tokens are rows bounds[i] to bounds[i + 1].
    """

    means: Floats
    tokens: Tensor
    bounds: Ints

    def scores(
        self, weights: Floats, biases: Floats, rows: Sequence[int], pooling: Pooling
    ) -> Floats:
        """S of some responses under m probes, computed as the server does.

        Args:
            weights: [m, hidden] float32.
            biases: [m] float32.
            rows: the responses, by number.

        Returns:
            [m, len(rows)] float32.
        """
        if pooling == "mean":  # a probe is affine, so the mean logit is the logit at the mean
            at_means: Floats = weights @ self.means[list(rows)].T + biases[:, None]
            return at_means
        found = np.empty((len(biases), len(rows)), dtype=np.float32)
        for place, row in enumerate(rows):
            logits = torch.from_numpy(self.token_logits(weights, biases, row))
            found[:, place] = pooled(logits, pooling)
        return found

    def token_logits(self, weights: Floats, biases: Floats, row: int) -> Floats:
        """The logit of every token of one response under m probes: [m, T] float32."""
        hidden = self.tokens[self.bounds[row] : self.bounds[row + 1]].float()
        logits: Floats = weights @ hidden.numpy().T + biases[:, None]
        return logits


@dataclass(frozen=True, eq=False)
class TokenActivations:
    """Response tokens of n sequences at some layers, in `folder`; sequences in the caller's order.

    Attributes:
        layers: indices into hidden_states, sorted.
        bounds: as `LayerActivations`.
        hidden_size, dtype: those of the hidden states in the files.
        rewards: [n] float32, the base reward R.
    """

    folder: Path
    layers: tuple[int, ...]
    bounds: Ints
    hidden_size: int
    dtype: torch.dtype
    rewards: Floats

    def read(self, layer: int) -> LayerActivations:
        """One layer; only its means are read into memory.

        Raises:
            ValueError: the layer is not here, or its file has the wrong size.
        """
        if layer not in self.layers:
            raise ValueError(f"layer {layer} was not read; there are {list(self.layers)}")
        path, shape = layer_file(self.folder, layer), (int(self.bounds[-1]), self.hidden_size)
        size, expected = path.stat().st_size, math.prod(shape) * self.dtype.itemsize
        if size != expected:
            raise ValueError(
                f"{path} has {size} bytes, not {expected}: delete the file, and it is made again"
            )
        # Not shared: the mapping is copy on write, so no change of the tensor reaches the file.
        flat = torch.from_file(str(path), shared=False, size=math.prod(shape), dtype=self.dtype)
        tokens = flat.view(shape)
        parts = torch.split(tokens, np.diff(self.bounds).tolist())
        means = torch.stack([part.mean(0, dtype=torch.float32) for part in parts]).numpy()
        return LayerActivations(means, tokens, self.bounds)


def activations_key(sequences: Sequences, *, weights_sha256: str, dtype: str, device: str) -> str:
    """The name of a folder of activations: hex, 32 characters.

    Args:
        sequences: token ids and spans; they follow from rows, template and tokeniser.
        dtype, device: those that the model computes in; a GPU rounds differently from a CPU.
    """
    total = hashlib.sha256(f"{weights_sha256} {dtype} {device}\n".encode())
    for ids, start, end in sequences:
        total.update(json.dumps([[int(token) for token in ids], start, end]).encode() + b"\n")
    return total.hexdigest()[:32]


def read_tokens(
    model: nn.Module,
    sequences: Sequences,
    layers: Sequence[int],
    folder: Path,
    *,
    packed: bool = False,
    company: Company | None = None,
    batch_tokens: int = 4096,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> TokenActivations:
    """The activations of `sequences` in `folder`, after one pass for the layers that it lacks.

    A file gets its final name only when it is complete, so an interrupted pass leaves no partial
    file under that name.

    Args:
        model, sequences, packed, company, batch_tokens, names, progress: as `read_responses`.
        layers: indices into hidden_states.

    Raises:
        ValueError: as `read_responses`; or the model's hidden states have another dtype than its
            weights.
        OSError: there is not enough room on the disk, or the folder cannot be written.
    """
    head = model.score
    assert isinstance(head, nn.Linear)
    wanted = tuple(sorted(set(layers)))
    missing = missing_layers(folder, wanted)
    rewards_file = _rewards_file(folder)
    found = TokenActivations(
        folder,
        wanted,
        np.cumsum([0, *(end - start for _, start, end in sequences)], dtype=np.int64),
        head.in_features,
        next(decoder(model).parameters()).dtype,
        np.load(rewards_file) if rewards_file.is_file() else np.empty(0, dtype=np.float32),
    )
    if missing or not len(found.rewards):
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_too_little_room(found, len(missing))
        read_pass = partial(
            read_responses,
            packed=packed,
            company=company,
            batch_tokens=batch_tokens,
            names=names,
            progress=progress,
        )
        return replace(found, rewards=_write(read_pass, model, sequences, missing, found))
    if progress is not None:
        progress(len(sequences))
    return found


def _write(
    read_pass: Callable[..., Floats],
    model: nn.Module,
    sequences: Sequences,
    layers: Sequence[int],
    to: TokenActivations,
) -> Floats:
    """Runs one pass, `read_pass`, and writes hidden states to the layers' files batch by batch.

    Returns:
        R of each sequence, [n] float32.
    """
    with ExitStack() as on_exit:
        partials = {n: _partial(layer_file(to.folder, n), on_exit) for n in layers}
        files = {n: on_exit.enter_context(path.open("wb")) for n, path in partials.items()}

        def keep(layer: int, batch: list[int], hidden: Tensor) -> None:
            if hidden.dtype != to.dtype:
                raise ValueError(f"layer {layer} is {hidden.dtype}, the weights are {to.dtype}")
            lengths = [sequences[index][2] - sequences[index][1] for index in batch]
            for index, part in zip(batch, torch.split(hidden.cpu(), lengths), strict=True):
                raw = part.contiguous().view(torch.uint8).numpy()
                files[layer].seek(int(to.bounds[index]) * raw.shape[1])
                files[layer].write(raw.data)

        rewards = read_pass(model, sequences, layers, keep)
        for layer, path in partials.items():
            files[layer].flush()
            os.fsync(files[layer].fileno())
            path.replace(layer_file(to.folder, layer))
        path = _partial(_rewards_file(to.folder), on_exit)
        with path.open("wb") as file:
            np.save(file, rewards)
        path.replace(_rewards_file(to.folder))
    return rewards


def missing_layers(folder: Path, layers: Sequence[int]) -> list[int]:
    """The layers that `read_tokens` would make a pass for."""
    return [layer for layer in layers if not layer_file(folder, layer).is_file()]


def _rewards_file(folder: Path) -> Path:
    return folder / "rewards.npy"


def layer_file(folder: Path, layer: int) -> Path:
    """The layer's file: raw [all tokens, hidden], in this machine's byte order."""
    return folder / f"layer-{layer:03d}.tokens"


def _partial(path: Path, on_exit: ExitStack) -> Path:
    """The name of `path` while it is written. The file is deleted when the stack unwinds, unless it
    was renamed before."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.partial")
    on_exit.callback(unfinished.unlink, missing_ok=True)
    return unfinished


def _refuse_too_little_room(wanted: TokenActivations, num_layers: int) -> None:
    tokens, width = int(wanted.bounds[-1]), wanted.hidden_size * wanted.dtype.itemsize
    needed, free = tokens * width * num_layers, shutil.disk_usage(wanted.folder).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"activations of {tokens} tokens at {num_layers} layers take {needed / 1e9:.1f} GB and "
            f"{free / 1e9:.1f} GB are free; read fewer layers or another disk",
            str(wanted.folder),
        )
