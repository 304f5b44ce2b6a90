"""Finds the parts of a decoder-only reward model: its trunk, the trunk's blocks, the head.

The trunk is the model without its head: embeddings, blocks, final norm. `LAYOUTS` lists the names
that these parts have in transformers' decoders; class names do not matter. A model in which they
are found reads its hidden states at the same places as transformers does (tested at every index of
every architecture in docs/models.md). An error names the attributes that were looked for.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.functional import linear

LAYOUTS = (
    ("embed_tokens", "layers", "norm"),  # Llama and most others
    ("embed_tokens", "layers", "final_layernorm"),  # Phi, Persimmon, Jamba
    ("embed_tokens", "layers", "final_layer_norm"),  # OPT
    ("embed_tokens", "layers", "layer_norm"),  # BioGPT
    ("embed_in", "layers", "final_layer_norm"),  # GPT-NeoX
    ("wte", "h", "ln_f"),  # GPT-2, GPT-J, GPT-Neo, GPTBigCode
    ("word_embeddings", "h", "ln_f"),  # BLOOM, Falcon
    ("wte", "blocks", "norm_f"),  # MPT
)
"""Attributes of a trunk: its token embeddings, its blocks (a ModuleList), its final norm."""


def decoder(model: nn.Module) -> nn.Module:
    """The trunk: the module that has the parts of one of `LAYOUTS`.

    The trunk is the model itself (a bare decoder), its base model (often `model.model`), or the
    base model's `decoder`.

    Raises:
        ValueError: none of these has the parts.
    """
    return _find(model)[0]


def decoder_blocks(model: nn.Module) -> nn.ModuleList:
    """The trunk's transformer blocks, first to last."""
    trunk, (_, blocks, _) = _find(model)
    return getattr(trunk, blocks)  # type: ignore[no-any-return]


def final_norm(model: nn.Module) -> nn.Module:
    """The trunk's last module, whose output the head reads."""
    trunk, (_, _, norm) = _find(model)
    return getattr(trunk, norm)  # type: ignore[no-any-return]


def _find(model: nn.Module) -> tuple[nn.Module, tuple[str, str, str]]:
    kinds = (nn.Module, nn.ModuleList, nn.Module)
    for candidate in _candidates(model):
        for layout in LAYOUTS:
            parts = (getattr(candidate, name, None) for name in layout)
            if all(isinstance(part, kind) for part, kind in zip(parts, kinds, strict=True)):
                return candidate, layout
    known = ", ".join(sorted({"/".join(layout) for layout in LAYOUTS}))
    raise ValueError(
        f"{type(model).__name__} is laid out in a way Candor does not know: looked for token "
        f"embeddings, blocks and a final norm named {known}"
    )


def _candidates(model: nn.Module) -> Iterator[nn.Module]:
    base = getattr(model, str(getattr(model, "base_model_prefix", "")) or "model", None)
    for candidate in (model, base, getattr(model, "model", None), getattr(base, "decoder", None)):
        if isinstance(candidate, nn.Module):
            yield candidate


def head_logits(model: nn.Module, last_hidden: Tensor) -> Tensor:
    """The base reward R: the head applied to the trunk's output at each item's last token.

    Computed in float32 whatever the model's dtype: a bfloat16 number near 10 has steps of 0.06,
    and rewards of neighbouring candidates differ by less.

    Args:
        last_hidden: [B, hidden], after the final norm.

    Returns:
        [B] float32.

    Raises:
        ValueError: the model has no `score` Linear with one output.
    """
    score = getattr(model, "score", None)
    if not isinstance(score, nn.Linear) or score.out_features != 1:
        raise ValueError(
            f"{type(model).__name__} has no one-label head: looked for a Linear 'score'"
        )
    bias = None if score.bias is None else score.bias.float()
    return linear(last_hidden.float(), score.weight.float(), bias).squeeze(-1)
