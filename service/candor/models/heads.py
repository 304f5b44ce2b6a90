"""Finds and loads the head of a published reward model: Linear(hidden, 1), with or without bias.

The names of a checkpoint's tensors tell which head it has:

| tensor | saved by |
| --- | --- |
| `score.weight` | transformers' `*ForSequenceClassification`; OpenRLHF 0.11.0 by default |
| `v_head.weight` | Starling-RM (its model card: Linear without bias on the final norm's output) |
| `regression_head.weight` | UltraRM (`LlamaRewardModel`, in rewardbench/models/openbmb.py) |
| `v_head.summary.weight`, `.bias` | TRL's `ValueHead`, also LLaMA-Factory's reward models |
| `value_head.weight` | OpenRLHF's older default |
| `<value_head_prefix>.weight` | OpenRLHF, any name that its config.json gives |

Sources: OpenRLHF 0.11.0, openrlhf/models/model.py and trainer/rm_trainer.py; TRL 1.10,
trl/experimental/ppo/modeling_value_head.py. All of them read the reward at the last token.
Checkpoints with a head of several layers or labels, or with gating, are refused, since a part of
them would not be read.

A value head of PPO training (the usual one of TRL) estimates returns and is no reward, but looks
the same: nothing in the file tells the two apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from candor.models.checkpoint import ModelRefused, Tensors

SCORE_WEIGHT = "score.weight"
HEAD_WEIGHTS = (
    SCORE_WEIGHT,
    "v_head.weight",
    "regression_head.weight",
    "v_head.summary.weight",
    "value_head.weight",
)

NEVER_LOADED = frozenset({"lm_head.weight", "lm_head.bias"})
"""A causal LM's next-token head; it may be saved beside a reward head."""


def find_head(tensors: Tensors, config: Mapping[str, Any]) -> str:
    """The name of the head's weight tensor. The name of its bias, if any, only differs in the end.

    Args:
        config: the contents of config.json, for OpenRLHF's `value_head_prefix`.

    Raises:
        ModelRefused: there is no head, there are two, or the head does not give one number.
    """
    prefix = config.get("value_head_prefix")
    names = [*HEAD_WEIGHTS, f"{prefix}.weight"] if isinstance(prefix, str) else HEAD_WEIGHTS
    found = list(dict.fromkeys(name for name in names if name in tensors))
    if not found:
        raise ModelRefused(
            f"the weights hold no reward head (looked for {', '.join(names)}): is this a trained "
            "reward model, and a causal decoder?"
        )
    if len(found) > 1:
        raise ModelRefused(
            f"the weights hold {len(found)} heads ({', '.join(found)}); remove all but the reward's"
        )
    (name,) = found
    labels = tensors.shapes[name][0] if len(tensors.shapes[name]) == 2 else 0
    # With any other head config.json is the base model's, and its labels do not count.
    if name == SCORE_WEIGHT and isinstance(declared := config.get("id2label"), dict):
        labels = labels if labels != 1 else len(declared)
    if labels != 1:
        raise ModelRefused(f"the model has {labels} labels ({name}); a reward model has 1")
    return name


def head_names(name: str, tensors: Tensors) -> set[str]:
    """All tensors of the head whose weight is `name`."""
    return {name, _bias_of(name)} & set(tensors.files)


def load_head(name: str, tensors: Tensors, config: Mapping[str, Any], hidden: int) -> nn.Linear:
    """The head in float32; R is computed in float32 (`candor.forward.head`).

    If config.json has OpenRLHF's `normalize_reward`, R becomes (R - mean) / std with the `mean` and
    `std` of config.json; both are folded into the head. (OpenRLHF writes `mean` and `std` after an
    evaluation, and normalises on a flag of its own. Set `normalize_reward` to have it here.)

    Raises:
        ModelRefused: a shape does not fit, or numbers are not finite.
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
    """OpenRLHF's `mean` and `std` of config.json."""
    numbers = [config.get("mean"), config.get("std")]
    mean, std = (float(n) if isinstance(n, int | float) else math.nan for n in numbers)
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise ModelRefused(
            f"config.json says normalize_reward, with mean {numbers[0]} and std {numbers[1]}: give "
            "finite numbers, std above 0"
        )
    return mean, std
