"""Finds the parts of a decoder-only reward model: its trunk, the trunk's blocks, the head.

The trunk is the model without its head: embeddings, blocks, final norm. Covered are the models that
`AutoModelForSequenceClassification`, `AutoModelForCausalLM` and `AutoModel` build for the Llama,
Qwen2/3, Mistral and Gemma/2/3 (text) families, and every model with the same attributes. Class
names do not matter. An error names the attributes that were looked for.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import linear


def decoder(model: nn.Module) -> nn.Module:
    """The trunk: the module with `embed_tokens`, `layers` (a ModuleList) and `norm`.

    The trunk is the model itself (a bare decoder) or the model's attribute `model`.

    Raises:
        ValueError: neither has these parts.
    """
    for candidate in (model, getattr(model, "model", None)):
        if (
            isinstance(candidate, nn.Module)
            and isinstance(getattr(candidate, "layers", None), nn.ModuleList)
            and isinstance(getattr(candidate, "norm", None), nn.Module)
            and isinstance(getattr(candidate, "embed_tokens", None), nn.Module)
        ):
            return candidate
    raise ValueError(
        f"{type(model).__name__} is laid out in a way Candor does not know: looked for "
        "'embed_tokens', 'layers' and 'norm' in the model and in its attribute 'model' (as Llama, "
        "Qwen, Mistral and Gemma have them)"
    )


def decoder_blocks(model: nn.Module) -> nn.ModuleList:
    """The trunk's transformer blocks, first to last."""
    blocks = decoder(model).layers
    assert isinstance(blocks, nn.ModuleList)
    return blocks


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
