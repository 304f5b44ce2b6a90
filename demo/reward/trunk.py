"""The demo's reward model with a trained trunk: low-rank adapters (LoRA) in its upper layers.

The adapters are fitted on the preference pairs of the frozen trunk's head, by the same
Bradley-Terry loss, and under that same head. So the two reward models differ in the trunk alone.

A prompt of the demo has up to 28 replies and twice as many pairs. All replies to a prompt go
through the packed forward (`candor.forward.batch.packed`) together, so a step computes each prompt
once and each reply once, where a trainer of pairs would compute both twice per pair.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import logsigmoid
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from candor.forward.batch import packed
from candor.forward.head import head_logits
from candor.forward.packed_attention import NAME as PACKED
from candor.models.load import load_reward_model
from candor.text.render import Renderer
from candor.text.request import ChatMessage, Messages
from demo.poems.pairs import Preference

BASE = "SmolLM2-135M-Instruct under the head of demo/artefacts/frozen"
FIRST_LAYER = 10
"""Lower layers stay as they are, which saves their backward pass. No other choice was tried."""

RANK = 8
LEARNING_RATE = 2e-4
WARM_UP = 20
STEPS = 256
PROMPTS_PER_STEP = 4
"""So a fit sees two prompts of three, each once."""

MOST_PAIRS = 16
"""Pairs of one prompt in one step, drawn at random."""

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def fit_adapter(
    base: Path, out: Path, pairs: Sequence[Preference], weights: NDArray[np.float32], *, seed: int
) -> None:
    """Train the adapters and save them to `out`, in the format of peft. Half an hour on 2 cores.

    Args:
        base: the reward model with the frozen trunk.
        weights: (pairs,) float32 with mean 1: the weight of each pair in the loss.
        seed: seed of the adapters' start, and of the order of prompts and pairs.
    """
    by_prompt: dict[str, list[int]] = {}
    for index, pair in enumerate(pairs):
        by_prompt.setdefault(pair.prompt, []).append(index)
    renderer = load_reward_model(str(base)).renderer()
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        base, dtype=torch.bfloat16, attn_implementation=PACKED
    )
    adapted = get_peft_model(model, _config(model.config.num_hidden_layers))
    trained = [weight for weight in adapted.parameters() if weight.requires_grad]
    steps = _steps(list(by_prompt), seed)
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0)
    pace = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARM_UP) * (1 - step / len(steps))
    )
    rng = random.Random(seed)
    bar = tqdm(steps, desc="reward model's trunk", unit="step")
    for prompts in bar:
        chosen: list[int] = []
        for prompt in prompts:
            mine = by_prompt[prompt]
            chosen += mine if len(mine) <= MOST_PAIRS else rng.sample(mine, MOST_PAIRS)
        margins = _margins(model, renderer, [pairs[index] for index in chosen])
        # Divided by the mean number of pairs, so that every pair weighs what `weights` says.
        losses = torch.from_numpy(weights[chosen]) * -logsigmoid(margins)
        loss = losses.sum() * len(by_prompt) / (len(pairs) * len(prompts))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        pace.step()
        optimizer.zero_grad(set_to_none=True)
        bar.set_postfix(loss=f"{loss.item():.3f}")
    adapted.peft_config["default"].base_model_name_or_path = BASE
    # Otherwise peft asks the hub whether the embeddings are those of the base.
    adapted.to(torch.bfloat16).save_pretrained(out, save_embedding_layers=False)
    (out / "README.md").unlink()  # peft's empty model card


def merge_adapter(base: Path, adapter: Path, out: Path) -> None:
    """Save the reward model whose weights are the base's and the adapter's, in bfloat16.

    The products are added up in float64. In float32 they differ from CPU to CPU by enough to round
    to other weights, and the probe is bound to the hash of the weights.
    """
    model = AutoModelForSequenceClassification.from_pretrained(base, dtype=torch.float64)
    adapted = PeftModel.from_pretrained(model, str(adapter)).to(torch.float64)
    adapted.merge_and_unload().to(torch.bfloat16).save_pretrained(out)
    AutoTokenizer.from_pretrained(base).save_pretrained(out)


def _config(num_layers: int) -> LoraConfig:
    return LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=list(PROJECTIONS),
        layers_to_transform=list(range(FIRST_LAYER, num_layers)),
    )


def _steps(prompts: list[str], seed: int) -> list[list[str]]:
    """The prompts of each step; no prompt comes twice."""
    order = random.Random(f"order {seed}").sample(prompts, STEPS * PROMPTS_PER_STEP)
    return [order[at : at + PROMPTS_PER_STEP] for at in range(0, len(order), PROMPTS_PER_STEP)]


def _margins(
    model: PreTrainedModel, renderer: Renderer, pairs: Sequence[Preference]
) -> torch.Tensor:
    """R of the chosen reply minus R of the rejected one, (pairs,) float32, with gradients."""
    texts = [(pair.prompt, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    ids = [
        renderer.encode(Messages((ChatMessage("user", prompt),)), text).token_ids
        for prompt, text in places
    ]
    run = packed(ids, [(len(one) - 1, len(one)) for one in ids], model.device)
    states = model.base_model(**run.inputs).last_hidden_state.flatten(0, 1)[run.last]
    rewards = head_logits(model, states)[[places[text] for text in texts]]
    return rewards[0::2] - rewards[1::2]
