"""Parts of a block that carry something from token to token, or from text to text, put into a tiny
Llama in place of its own MLP."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from candor.forward.head import decoder_blocks
from tests.tiny import tiny_llama


class _Beside(nn.Module):
    """The MLP's own output, and `strength` times what `seen` makes of its input."""

    def __init__(self, mlp: nn.Module, strength: float) -> None:
        super().__init__()
        self.mlp = mlp
        self.strength = strength

    def forward(self, hidden: Tensor) -> Tensor:
        own: Tensor = self.mlp(hidden)
        return own + self.strength * self.seen(hidden)

    def seen(self, hidden: Tensor) -> Tensor:
        raise NotImplementedError


class TokenShift(_Beside):
    """Each token sees the one before it, as in RWKV."""

    def seen(self, hidden: Tensor) -> Tensor:
        return nn.functional.pad(hidden, (0, 0, 1, 0))[:, :-1]


class RunningSum(_Beside):
    """A state along the sequence, as in linear attention."""

    def seen(self, hidden: Tensor) -> Tensor:
        return hidden.cumsum(1)


class LookAhead(_Beside):
    """Each token sees the one after it: padding, too."""

    def seen(self, hidden: Tensor) -> Tensor:
        return nn.functional.pad(hidden, (0, 0, 0, 1))[:, 1:] + 1.0 * (hidden.shape[1] % 7)


class WholeBatch(_Beside):
    """Each token sees all tokens of the batch, as with an expert's capacity."""

    def seen(self, hidden: Tensor) -> Tensor:
        return hidden.mean((0, 1), keepdim=True).expand_as(hidden)


class ByLength(_Beside):
    """Each token sees how many tokens there are."""

    def seen(self, hidden: Tensor) -> Tensor:
        return torch.full_like(hidden, hidden.shape[1] / 64)


class Random(_Beside):
    """As dropout that is left on."""

    def seen(self, hidden: Tensor) -> Tensor:
        return torch.randn_like(hidden)


def with_mixer(kind: type[_Beside], strength: float = 0.3) -> PreTrainedModel:
    model = tiny_llama()
    for block in decoder_blocks(model):
        block.mlp = kind(block.mlp, strength)  # type: ignore[arg-type]
    return model
