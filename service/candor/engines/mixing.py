"""Whether tokens see each other through attention alone: `why_not_packable`.

A packed batch is right only if attention is all that carries information from token to token, and
if it is the attention that `candor.forward.packed_attention` computes: causal, perhaps with a
window or a soft-cap. Convolutions, state-space layers, delta nets, token shifts and routing with a
capacity carry information along the sequence by other ways, and in a packed batch they carry it
from one text into another.

Nothing is concluded from names. The trunk runs with an attention in which each token sees itself
only. Then one token is changed, and the text is made longer: if any other token's hidden states
change at any block, something else than attention mixes tokens. The same runs show what the
attention is given: a mask that says more than "causal, within the window", or an argument that is
unknown here, is a reason not to pack.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from candor.forward.capture import read_hidden_states
from candor.forward.company import Company
from candor.forward.head import decoder_blocks
from candor.forward.packed_attention import why_unknown
from candor.models.causes import cause_of

NAME = "candor_each_token_itself"

PLAIN_LAYERS = frozenset({"full_attention", "sliding_attention", "attention"})
"""Layer types of config.json whose attention can be packed."""

PADDABLE_LAYERS = PLAIN_LAYERS | {
    "chunked_attention",
    "linear_attention",
    "hybrid",
    "mamba",
    "conv",
}
"""Layer types that see no token behind them, so that padding on the right changes nothing."""

NUM_TOKENS = 48


@dataclass(frozen=True, slots=True)
class _Call:
    """What one attention was called with."""

    module: nn.Module
    mask: Tensor | None
    arguments: Mapping[str, Any]
    num_keys: int


def _each_token_itself(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    attention_calls: list[_Call] | None = None,
    **arguments: Any,
) -> tuple[Tensor, None]:
    """Attention as `AttentionInterface` calls it; every query gets its own token's value."""
    if attention_calls is not None:
        attention_calls.append(_Call(module, attention_mask, arguments, key.shape[2]))
    own = value.repeat_interleave(query.shape[1] // value.shape[1], 1)
    return own.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _each_token_itself)
AttentionMaskInterface.register(NAME, eager_mask)


def why_not_packable(
    model: PreTrainedModel, company: Company, num_tokens: int = NUM_TOKENS
) -> str | None:
    """The reason why this model's texts must not be packed, or None.

    Args:
        num_tokens: length of the text that is tried. Masks show what they do only in texts longer
            than their windows.
    """
    if unknown := sorted(_layer_types(model) - PLAIN_LAYERS):
        return f"it has layers of type {', '.join(unknown)}{_names(model)}"
    try:
        if not model._can_set_attn_implementation():
            return "its attention does not go through transformers' AttentionInterface"
        with _own_attention(model):
            return _why_mixing(model, company, num_tokens)
    except Exception as error:
        return cause_of(error)


def why_not_padded(model: PreTrainedModel) -> str | None:
    """The reason why padding may change this model's scores, or None. The check at start finds the
    others; in 16 bits it may not find layers that choose a few of their keys."""
    unknown = sorted(_layer_types(model) - PADDABLE_LAYERS)
    return f"it has layers of type {', '.join(unknown)}" if unknown else None


def _layer_types(model: PreTrainedModel) -> set[str]:
    return set(map(str, getattr(model.config.get_text_config(), "layer_types", None) or ()))


def _names(model: PreTrainedModel, block: int | None = None) -> str:
    """The classes of the blocks' parts, so that a reader sees the mixer's."""
    blocks = decoder_blocks(model)
    some = blocks if block is None else [blocks[block]]
    names = {type(part).__name__: None for one in some for part in one.children()}
    return f" (parts of the blocks: {', '.join(names)})"


@contextmanager
def _own_attention(model: PreTrainedModel) -> Iterator[None]:
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _why_mixing(model: PreTrainedModel, company: Company, num_tokens: int) -> str | None:
    draw = random.Random(1)
    vocabulary = model.config.get_text_config().vocab_size
    ids = [draw.randrange(vocabulary) for _ in range(num_tokens)]
    place = num_tokens // 2
    changed = [*ids[:place], (ids[place] + 1) % vocabulary, *ids[place + 1 :]]
    text, calls = _states(model, company, ids)
    other, _ = _states(model, company, changed)
    # Not past a boundary of the rotary frequencies, where each side is a forward of its own.
    longer, _ = _states(model, company, ids[: num_tokens - 8])
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.05
    for layer in range(1, len(text)):
        found = {
            "changes with another token": _gaps(text[layer], other[layer]),
            "changes with the length of the text": _gaps(
                text[layer][: num_tokens - 8], longer[layer]
            ),
        }
        found["changes with another token"][place] = 0.0
        for what, gaps in found.items():
            if not bool((gaps <= tolerance).all()):  # "not <=", so that NaN counts too
                mixer = _names(model, layer - 1)
                return f"something else than attention mixes tokens: a token {what}{mixer}"
    if not calls:
        return "the trunk does not hand the layout of a batch on to its attention"
    if torch.equal(text[-1][place], other[-1][place]):
        return "the trunk gives two different tokens the same hidden states"
    numbers = [getattr(call.module, "layer_idx", None) for call in calls]
    if len(set(numbers)) < len(numbers) or None in numbers:
        name = type(calls[0].module).__name__
        return f"{name} attends more than once in a layer, or does not number its layers"
    return next(filter(None, map(_why_other_attention, calls)), None)


@torch.inference_mode()
def _states(
    model: PreTrainedModel, company: Company, ids: list[int]
) -> tuple[list[Tensor], list[_Call]]:
    """Hidden states [T, hidden] float32 at every index, and the calls of the attention."""
    states: dict[int, Tensor] = {}
    calls: list[_Call] = []
    device = next(model.parameters()).device
    layers = range(len(decoder_blocks(model)) + 1)

    def keep(layer: int, hidden: Tensor) -> None:
        states[layer] = hidden[0].float().cpu()

    readers = {layer: lambda hidden, layer=layer: keep(layer, hidden) for layer in layers}
    inputs = {
        "input_ids": torch.tensor([ids], device=device),
        "position_ids": torch.arange(len(ids), device=device)[None],
        "use_cache": False,
        "attention_calls": calls,
    }
    with read_hidden_states(model, readers):
        company.run(inputs)
    return [states[layer] for layer in layers], calls


def _gaps(one: Tensor, other: Tensor) -> Tensor:
    """By token, the largest difference in units of the token's root mean square."""
    scale = one.pow(2).mean(-1).sqrt().clamp_min(1e-12)
    return (one - other).abs().amax(-1) / scale


def _why_other_attention(call: _Call) -> str | None:
    name = type(call.module).__name__
    if reason := why_unknown(call.module, call.arguments):
        return f"{name} {reason}"
    if call.mask is None:
        return None
    place = torch.arange(call.num_keys, device=call.mask.device)
    back = place[:, None] - place[None]
    window = call.arguments.get("sliding_window")
    seen = (back >= 0) & (back < (window or call.num_keys))
    given = call.mask
    if given.dtype != torch.bool:
        given = given == 0
        masked = torch.finfo(call.mask.dtype).min / 2
        if not bool((given | (call.mask < masked)).all()):
            return f"{name} adds a bias to its scores by its mask"
    if not bool((given == seen).all()):
        return f"{name} has a mask that is not causal with a window of {window}"
    return None
