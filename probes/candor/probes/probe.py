"""`Probe`: a linear direction in one layer's activations, and how token logits become one score.

A probe is frozen: fitting is `candor.probes.fitting.fit`, storing is `candor.probes.artifact`,
reading activations is `candor.forward.capture`. A probe gives logits, never probabilities: the
sigmoid belongs to the fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor

from candor.probes.card import Pooling as Pooling

TOPK_SHARE = 0.1
"""`topk` is the mean over this share of the response's tokens, those with the largest logits."""

ROLLING_WINDOW = 10
"""`rolling-max` is the largest mean over this many tokens in a row: about one short sentence. A
response of at most this many tokens has one such mean, that of all its tokens."""


def pooled(logits: Tensor, pooling: Pooling) -> Tensor:
    """Token logits [..., T], T >= 1 -> S [...]: one pooling for serving, fitting and reports."""
    if pooling == "max":
        return logits.amax(-1)
    if pooling == "last":
        return logits[..., -1]
    num_tokens = logits.shape[-1]
    if pooling == "topk":
        logits = logits.topk(math.ceil(TOPK_SHARE * num_tokens), dim=-1).values
    elif pooling == "rolling-max":
        windows = logits.unfold(-1, min(ROLLING_WINDOW, num_tokens), 1)
        return windows.mean(-1).amax(-1)
    return logits.mean(-1)


@dataclass(frozen=True, eq=False)  # == on a tensor is a tensor, not a bool
class Probe:
    """A linear probe on `hidden_states[layer]` (0 = the embeddings, num_layers = after the final
    norm).

    Args:
        name: the probe's name in requests and cards.
        weight: [hidden] float32.
        bias: a logit.
        layer: index into Hugging Face's `hidden_states`.
        pooling: how the response's token logits become S. `mean` is the paper's (arXiv 2412.00967);
            `max` and `topk` find a trait that few tokens show; `last` reads the last token;
            `rolling-max`, the maximum of rolling means, finds a trait that one sentence of a long
            response shows, where `mean` dilutes it (arXiv 2601.11516).

    Raises:
        ValueError: the weight has another shape or dtype or is not finite, the pooling is unknown,
            or the layer is negative.
    """

    name: str
    weight: Tensor
    bias: float
    layer: int
    pooling: Pooling = "mean"

    def __post_init__(self) -> None:
        if self.weight.dim() != 1 or self.weight.dtype != torch.float32:
            shape, dtype = tuple(self.weight.shape), self.weight.dtype
            raise ValueError(f"a probe's weight is [hidden] float32, got {shape} {dtype}")
        if not (bool(torch.isfinite(self.weight).all()) and math.isfinite(self.bias)):
            raise ValueError(f"probe {self.name!r} has a weight or bias that is not finite")
        if self.pooling not in get_args(Pooling):
            poolings = ", ".join(get_args(Pooling))
            raise ValueError(f"unknown pooling {self.pooling!r}: use one of {poolings}")
        if self.layer < 0:
            raise ValueError(f"a probe's layer is at least 0, got {self.layer}")

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [..., hidden] of any float dtype -> [...] float32, computed in float32."""
        return hidden.float() @ self.weight + self.bias

    def pool(self, token_logits: Tensor) -> float:
        """The response's token logits [T], T >= 1 -> the response's score S.

        Raises:
            ValueError: there is no token. An empty response has no score, and 0.0 would be wrong.
        """
        if token_logits.dim() != 1 or len(token_logits) == 0:
            raise ValueError(f"pooling needs logits [T], T >= 1, got {tuple(token_logits.shape)}")
        return float(pooled(token_logits.float(), self.pooling))

    def to(self, device: torch.device | str) -> Probe:
        """The same probe with its weight on `device`."""
        return replace(self, weight=self.weight.to(device))
