"""Takes linear directions out of a model's activations, so that R is computed without them.

`project_out` hooks a layer: of every token's hidden state h, of context and response alike, it
replaces the part along the directions w_i so that each w_i . h + b_i becomes 0 and the rest of h
stays. This is the affine projection h - Q (Q^T h - c): Q [hidden, k] is an orthonormal basis of the
w_i, and c the coordinates of the point where all k logits are 0. Every later layer, and so R, is
computed from the projected states. At the last index (the output of the final norm) only the head
is. There c adds the same number to every R, so that the order of responses is that of the plain
null-space projection of arXiv 2603.03291.

The hooks stay on the model, as a part of it: its own forward, padded and packed batches and kept
keys and values are all of the projected model. A token's projection depends on that token alone.
Readers (`candor.forward.capture`) see a layer as it is before the projection at that layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from candor.forward.head import decoder_blocks, final_norm

RANK_TOLERANCE = 1e-5
"""A direction closer to the span of the others than this, as a share, lies in it."""


@dataclass(frozen=True, eq=False)
class Plane:
    """The hidden states at which k logits of a layer are 0.

    Attributes:
        basis: Q, [hidden, rank] float32, orthonormal columns.
        centre: c, [rank] float32.
    """

    basis: Tensor
    centre: Tensor

    def to(self, device: torch.device | str) -> Plane:
        """The same plane on `device`."""
        return Plane(self.basis.to(device), self.centre.to(device))

    def nearest(self, hidden: Tensor) -> Tensor:
        """hidden [..., hidden], any float dtype -> the nearest states in the plane, in that dtype;
        computed in float32."""
        wide = hidden.float()
        return (wide - (wide @ self.basis - self.centre) @ self.basis.T).to(hidden.dtype)


def plane(weights: Tensor, biases: Tensor) -> Plane:
    """The plane of k linear read-outs, computed in float64.

    Args:
        weights: [k, hidden], any float dtype.
        biases: [k], in logits.

    Raises:
        ValueError: a weight is zero, or two read-outs have one direction and their logits cannot
            both be 0 (their biases differ).
    """
    wide = weights.detach().cpu().double()
    norms = wide.norm(dim=1)
    if not bool((norms > 0).all()):
        raise ValueError("a direction of zeros has nothing to take out")
    unit, target = wide / norms[:, None], -biases.detach().cpu().double() / norms
    _, sizes, rows = torch.linalg.svd(unit, full_matrices=False)
    basis = rows[sizes > RANK_TOLERANCE * sizes[0]].T
    centre = torch.linalg.pinv(unit @ basis) @ target
    if not torch.allclose(unit @ basis @ centre, target, rtol=1e-4, atol=1e-6):
        raise ValueError("two of the directions are the same, and their biases differ")
    return Plane(basis.float(), centre.float())


def project_out(
    model: nn.Module, planes: Mapping[int, Plane], device: torch.device | str
) -> Callable[[], None]:
    """Moves the model's activations into the planes, in every later forward.

    Args:
        planes: by index into `hidden_states`: i < num_layers is the input of block i, num_layers
            the output of the final norm.
        device: the model's device.

    Returns:
        A function that takes the hooks off again.

    Raises:
        ValueError: the model has no such layer.
    """
    blocks = decoder_blocks(model)
    handles = []
    for layer, target in planes.items():
        if not 0 <= layer <= len(blocks):
            raise ValueError(f"layer {layer} does not exist: this model has 0 to {len(blocks)}")
        change = target.to(device).nearest
        if layer < len(blocks):
            hook = _before_block(change)
            handles.append(blocks[layer].register_forward_pre_hook(hook, with_kwargs=True))
        else:
            handles.append(final_norm(model).register_forward_hook(_after_norm(change)))

    def take_off() -> None:
        for handle in handles:
            handle.remove()

    return take_off


def _before_block(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def before(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": change(kwargs["hidden_states"])}

    return before


def _after_norm(change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def after(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return change(output)

    return after
