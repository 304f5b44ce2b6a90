"""Linear layers with 8-bit weights, for CPUs; the integer products are oneDNN's, as torch has them.

Weights are rounded by output channel, inputs by token, so what comes out for a token depends on
that token alone, whatever else is in the batch: integer sums are exact in any order. Attention,
norms, head and probes stay as they are.

It changes scores. Whether it changes which reply is the best is `candor.engines.int8_gate`'s
question.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from candor.forward.head import decoder_blocks

WEIGHT_STEPS = 127
INPUT_STEPS = 63
"""Inputs get 7 bits: without VNNI the CPU adds two products of a byte with a signed byte in 16 bits
(vpmaddubsw), which two of full size would not fit into. The same everywhere, so that two machines
give one score."""

ZERO = INPUT_STEPS + 1
TINY = 1e-12


class Int8Linear(nn.Module):
    """What `layer` computes, to between 1 and 2 % of its output's size.

    Args:
        layer: on a CPU; its weight is copied, rounded and packed.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach().float()
        self._steps = weight.abs().amax(1).clamp_min(TINY) / WEIGHT_STEPS
        rounded = (weight / self._steps[:, None]).round().to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        self._bias = None if layer.bias is None else layer.bias.detach().float()

    def forward(self, states: Tensor) -> Tensor:
        """[..., in] -> [..., out], in the dtype of `states`."""
        flat = states.flatten(0, -2).float()
        peaks = flat.abs().amax(1, keepdim=True).clamp_min_(TINY)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            (flat * (INPUT_STEPS / peaks)).round_().add_(ZERO).to(torch.uint8),
            1 / INPUT_STEPS,
            ZERO,
            self._packed,
            self._steps,
            self._zeros,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        product.mul_(peaks)
        if self._bias is not None:
            product += self._bias
        return product.view(*states.shape[:-1], -1).to(states.dtype)


@torch.no_grad()
def quantise(model: nn.Module) -> int:
    """Replaces every linear layer of the model's decoder blocks, in place; how many."""
    count = 0
    for block in decoder_blocks(model):
        for parent in list(block.modules()):
            for name, child in list(parent.named_children()):
                if type(child) is nn.Linear:
                    setattr(parent, name, Int8Linear(child))
                    count += 1
    return count
