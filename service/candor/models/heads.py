"""The heads that reward models are published with, made into one Linear(hidden, 1) with a bias or
without.

Which one a checkpoint has is told by its tensors' names alone:

| tensor | who saves it so |
| --- | --- |
| `score.weight` | transformers' `*ForSequenceClassification`; OpenRLHF 0.11.0 by default |
| `v_head.weight` | Starling-RM (its model card: Linear without bias on the final norm's output) |
| `regression_head.weight` | UltraRM (`LlamaRewardModel`, in rewardbench/models/openbmb.py) |
| `v_head.summary.weight`, `.bias` | TRL's `ValueHead`, also LLaMA-Factory's reward models |
| `value_head.weight` | OpenRLHF's older default |
| `<value_head_prefix>.weight` | OpenRLHF, any name that its config.json gives |

Sources read: OpenRLHF 0.11.0, openrlhf/models/model.py and trainer/rm_trainer.py; TRL 1.10,
trl/experimental/ppo/modeling_value_head.py. All of them read the reward at the last token. Not
here: heads of several layers, heads of several labels, gating; a checkpoint with one of these is
refused, since a part of it would not be read.

A value head of PPO training (TRL's usual one) looks the same as a reward model's and is none:
nothing in the file tells them apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from candor.models.checkpoint import ModelRefused, Tensors

SCORE = "score.weight"
KNOWN = (
    SCORE,
    "v_head.weight",
    "regression_head.weight",
    "v_head.summary.weight",
    "value_head.weight",
)

UNREAD = frozenset({"lm_head.weight", "lm_head.bias"})
"""A causal LM's next-token head: may lie beside a reward head, is never loaded."""


def find_head(tensors: Tensors, config: Mapping[str, Any]) -> str:
    """The name of the head's weight; its bias, where there is one, is called alike.

    Args:
        config: config.json as it is written, for OpenRLHF's `value_head_prefix`.

    Raises:
        ModelRefused: no head, two heads, or one that does not give one number.
    """
    prefix = config.get("value_head_prefix")
    names = [*KNOWN, f"{prefix}.weight"] if isinstance(prefix, str) else KNOWN
    found = list(dict.fromkeys(name for name in names if name in tensors))
    if not found:
        raise ModelRefused(
            f"the weights hold no reward head (looked for {', '.join(names)}): is this a trained "
            "reward model, and a causal decoder?"
        )
    if len(found) > 1:
        raise ModelRefused(
            f"the weights hold {len(found)} heads ({', '.join(found)}); remove those that are not "
            "the reward"
        )
    (name,) = found
    labels = tensors.shapes[name][0] if len(tensors.shapes[name]) == 2 else 0
    # Other heads' configurations are a base model's, and say nothing of the head.
    if name == SCORE and isinstance(declared := config.get("id2label"), dict):
        labels = labels if labels != 1 else len(declared)
    if labels != 1:
        raise ModelRefused(f"the model has {labels} labels ({name}); a reward model has 1")
    return name


def head_names(name: str, tensors: Tensors) -> set[str]:
    """All tensors of the head whose weight is `name`."""
    return {name, _bias_of(name)} & set(tensors.files)


def load_head(name: str, tensors: Tensors, config: Mapping[str, Any], hidden: int) -> nn.Linear:
    """The head in float32, which is what R is computed in (`candor.forward.head`).

    Where OpenRLHF's config.json says `normalize_reward`, R is (R - mean) / std with its `mean` and
    `std`; both are folded into the head. (OpenRLHF itself writes the two after an evaluation and
    asks for the normalisation by a flag, so set the key to have it.)

    Raises:
        ModelRefused: a shape that does not fit, or numbers that are not finite.
    """
    if tensors.shapes[name] != (1, hidden):
        shape = list(tensors.shapes[name])
        raise ModelRefused(
            f"the weights do not fit config.json: {name} is {shape}, not 1, {hidden}"
        )
    weight = tensors.read(name).float()
    bias = tensors.read(_bias_of(name)).float() if _bias_of(name) in tensors else None
    if bias is not None and bias.shape != (1,):
        raise ModelRefused(f"{_bias_of(name)} has {bias.numel()} numbers; a reward model's has 1")
    if config.get("normalize_reward") is True:
        mean, std = _normalisation(config)
        weight, bias = weight / std, ((0.0 if bias is None else bias) - torch.tensor([mean])) / std
    if not all(torch.isfinite(part).all() for part in (weight, bias) if part is not None):
        raise ModelRefused(f"the head's weights ({name}) are not finite")
    head = nn.Linear(hidden, 1, bias=bias is not None)
    head.weight.data = weight
    if bias is not None:
        head.bias.data = bias
    return head.eval().requires_grad_(False)


def _bias_of(name: str) -> str:
    return name.removesuffix("weight") + "bias"


def _normalisation(config: Mapping[str, Any]) -> tuple[float, float]:
    """OpenRLHF's mean and std, as numbers."""
    numbers = [config.get("mean"), config.get("std")]
    mean, std = (float(n) if isinstance(n, int | float) else math.nan for n in numbers)
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise ModelRefused(
            f"config.json says normalize_reward, with mean {numbers[0]} and std {numbers[1]}: give "
            "finite numbers, std above 0"
        )
    return mean, std
