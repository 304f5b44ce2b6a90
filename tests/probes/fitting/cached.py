"""Activations on disk made from arrays, as a pass over a model would leave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from candor.probes.fitting.activations import TokenActivations, layer_file

Floats = NDArray[np.float32]


def cached(folder: Path, layers: Mapping[int, Sequence[Floats]]) -> TokenActivations:
    """`layers`: layer -> the tokens [T, d] of each response; a [n, d] array is n of one token."""
    responses = [
        [np.atleast_2d(response) for response in responses] for responses in layers.values()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for layer, parts in zip(layers, responses, strict=True):
        np.concatenate(parts).astype(np.float32).tofile(layer_file(folder, layer))
    lengths = [len(part) for part in responses[0]]
    return TokenActivations(
        folder,
        tuple(sorted(layers)),
        np.cumsum([0, *lengths], dtype=np.int64),
        responses[0][0].shape[1],
        torch.float32,
        np.zeros(len(lengths), dtype=np.float32),
    )
