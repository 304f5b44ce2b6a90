"""`take_over`: plain decoder blocks computed with less memory traffic, the last one for few tokens.

transformers writes a block as a chain of small tensor operations, each of which reads and writes
all hidden states again between the matrix products. Here the products add into the hidden states in
place, and each step between them is one pass (compiled, where `candor.forward.native` was built).
The last block computes only the tokens that will be read; of all other tokens it needs keys and
values alone. The sums are the block's own, in another order.

Only blocks of the classes in `PLAIN` are taken over, and only for packed batches; any other block
keeps its own forward. Modules, weights and hooks stay: only the instance's `forward` is replaced.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu
from transformers.activations import SiLUActivation
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.mistral.modeling_mistral import MistralAttention, MistralDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

from candor.forward import native
from candor.forward.head import decoder_blocks
from candor.forward.native import Kernel
from candor.forward.packed_attention import PackedLayout, packed_attention

PLAIN = (LlamaDecoderLayer, MistralDecoderLayer, Qwen2DecoderLayer, Qwen3DecoderLayer)
"""RMS norm, rotary attention, residual; RMS norm, gated SiLU, residual; nothing else."""


def take_over(model: nn.Module) -> bool:
    """Replaces the forward of every block if all blocks are plain; returns whether they are.

    The model must run `candor.forward.packed_attention`.
    """
    blocks = decoder_blocks(model)
    if not all(_is_plain(block) for block in blocks):
        return False
    for number, block in enumerate(blocks):
        block.forward = partial(_forward, block, number == len(blocks) - 1)
    return True


def give_back(model: nn.Module) -> None:
    """Restores the blocks' own forwards."""
    for block in decoder_blocks(model):
        vars(block).pop("forward", None)


def _is_plain(block: nn.Module) -> bool:
    if type(block) not in PLAIN:
        return False
    attention, mlp = _part(block, "self_attn"), _part(block, "mlp")
    outward = [_part(attention, "o_proj")]
    outward += [_part(mlp, name) for name in ("gate_proj", "up_proj", "down_proj")]
    inward = [_part(attention, f"{name}_proj") for name in "qkv"]
    return (
        all(type(layer) is nn.Linear for layer in (*inward, *outward))
        and all(layer.bias is None for layer in outward)
        and isinstance(_part(mlp, "act_fn"), SiLUActivation)
    )


def _forward(
    block: nn.Module,
    is_last: bool,
    hidden_states: Tensor,
    *,
    position_embeddings: tuple[Tensor, Tensor],
    packed_layout: PackedLayout,
    **others: Any,
) -> Tensor:
    """[1, T, hidden] -> [1, T, hidden]; NaN at tokens of the last block that will not be read."""
    hidden = hidden_states[0]
    kernel = native.kernel()
    if kernel is not None and not kernel.can(hidden):
        kernel = None
    queries = packed_layout.read_queries if is_last else None
    read_tokens = None if queries is None else queries.tokens
    attention, mlp = _part(block, "self_attn"), _part(block, "mlp")
    cosines, sines = (angles[0] for angles in position_embeddings)
    normed = _norm(kernel, _part(block, "input_layernorm"), hidden)
    key = _rotated(kernel, _heads(kernel, attention, "k", normed), cosines, sines)
    value = _heads(kernel, attention, "v", normed)
    if read_tokens is not None:
        hidden, normed, cosines, sines = (
            states[read_tokens] for states in (hidden, normed, cosines, sines)
        )
    query = _rotated(kernel, _heads(kernel, attention, "q", normed), cosines, sines)
    query, key, value = (states.transpose(0, 1)[None] for states in (query, key, value))
    mixed, _ = packed_attention(
        attention,
        query,
        key,
        value,
        None,
        scaling=float(attention.scaling),  # type: ignore[arg-type]
        packed_layout=packed_layout,
        sliding_window=_window(attention),
        queries=queries,
    )
    hidden = _add(hidden.clone(), mixed[0].flatten(1), _part(attention, "o_proj"))
    normed = _norm(kernel, _part(block, "post_attention_layernorm"), hidden)
    gate = _product(normed, _part(mlp, "gate_proj"))
    up = _product(normed, _part(mlp, "up_proj"))
    if kernel is None:
        gate = silu(gate, inplace=True).mul_(up)
    else:
        kernel.silu_multiply(gate, up)
    hidden = _add(hidden, gate, _part(mlp, "down_proj"))
    if read_tokens is None:
        return hidden[None]
    # Reading a token that was not named gives NaN, and so an error: never a wrong number.
    output = torch.full_like(hidden_states[0], torch.nan)
    output[read_tokens] = hidden
    return output[None]


def _norm(kernel: Kernel | None, norm: nn.Module, hidden: Tensor) -> Tensor:
    if kernel is None:
        return norm(hidden)  # type: ignore[no-any-return]
    weight, eps = norm.weight, norm.variance_epsilon
    assert isinstance(weight, Tensor)
    return kernel.rms_norm(hidden, weight, float(eps))  # type: ignore[arg-type]


def _heads(kernel: Kernel | None, attention: nn.Module, name: str, normed: Tensor) -> Tensor:
    """The projection `name` (q, k or v): [T, heads, head_dim], normed where the block norms it
    (Qwen3)."""
    states = _product(normed, _part(attention, f"{name}_proj"))
    states = states.view(len(normed), -1, int(attention.head_dim))  # type: ignore[arg-type]
    if name == "v" or not hasattr(attention, f"{name}_norm"):
        return states
    norm = _part(attention, f"{name}_norm")
    return _norm(kernel, norm, states.flatten(0, 1)).view_as(states)


def _rotated(kernel: Kernel | None, states: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """`states` with their rotary embedding; `states` may be overwritten."""
    if kernel is not None:
        kernel.rotate(states, cosines, sines)
        return states
    first, second = states.chunk(2, -1)
    turned = torch.cat((-second, first), -1)
    return torch.addcmul(states * cosines[:, None], turned, sines[:, None])


def _window(attention: nn.Module) -> int | None:
    """The sliding window, or None. Mistral's attention has it in its configuration, the others in
    an attribute."""
    window = getattr(attention, "sliding_window", None)
    if isinstance(attention, MistralAttention):
        window = getattr(attention.config, "sliding_window", None)
    return None if window is None else int(window)


def _product(states: Tensor, layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Linear)
    return linear(states, layer.weight, layer.bias)


def _add(hidden: Tensor, states: Tensor, layer: nn.Module) -> Tensor:
    """Adds the product of a layer without a bias to `hidden`, in place."""
    assert isinstance(layer, nn.Linear)
    return hidden.addmm_(states, layer.weight.t())


def _part(module: nn.Module, name: str) -> nn.Module:
    part = getattr(module, name)
    assert isinstance(part, nn.Module)
    return part
