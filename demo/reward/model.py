"""The demo's reward model: SmolLM2's trunk under a head with a known bias.

The head is fitted on the frozen trunk by Bradley-Terry on preference pairs about pieces of writing
(`demo.poems.pairs`) and about questions whose answer stands in the prompt (`demo.grounded.pairs`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from candor.engines.choose import build_engine
from candor.forward.head import head_logits
from candor.item import Item
from candor.models.load import RewardModel, load_reward_model
from candor.probes.fitting.collect import read_responses
from candor.text.request import ChatMessage, Messages
from demo.grounded.answers import Answered
from demo.grounded.asked import asked
from demo.grounded.pairs import answer_preferences, composed_preferences
from demo.poems.pairs import SIDING, Preference, preferences

Trunk = Literal["lora", "frozen"]
"""Whether the reward model's trunk was trained (`demo.reward.trunk`) or is the generator's own."""

SEED = 0

Shares = Mapping[tuple[str, str], float]
"""What the pairs of each family, and of what they are about, weigh together in a fit."""

FROZEN_SHARES: Shares = {
    ("grounded", "siding"): 2.0,
    ("grounded", "quality"): 1.0,
    ("writing", "siding"): 0.3,
    ("writing", "quality"): 0.15,
}
"""For a head alone: 576 numbers cannot learn both biases equally well. The shares were chosen on
dev questions and dev pieces (docs/decisions.md)."""

TRAINED_SHARES: Shares = {
    **FROZEN_SHARES,
    ("writing", "siding"): 0.8,
    ("writing", "quality"): 0.4,
}
"""For a trained trunk, which can learn both."""

QUESTION = (
    "<|im_start|>user\nIn one word, what did you think of it?<|im_end|>\n"
    "<|im_start|>assistant\nI thought it was"
)
"""The reward model's chat template puts this after the reply; R is read at its last token.

A 135M trunk does not sum up a reply at the reply's end token: a head that is fitted there hardly
learns to side with the user. After this question it learns to (docs/decisions.md). The server needs
no setting for it, because the question is part of the template.
"""


def save_reward_model(language_model: Path, out: Path, weight: torch.Tensor) -> None:
    """Save the trunk, the head `weight` (1, hidden) and a template that asks `QUESTION`."""
    model = AutoModelForSequenceClassification.from_pretrained(
        language_model, num_labels=1, dtype=torch.bfloat16
    )
    model.score.weight.data = weight.to(model.dtype)
    model.save_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    escaped = QUESTION.replace("\n", "\\n")
    tokenizer.chat_template += (
        "{% if messages and messages[-1]['role'] == 'assistant' %}{{ '"
        + escaped
        + "' }}{% endif %}"
    )
    tokenizer.save_pretrained(out)


def training_pairs(answered: Sequence[Answered]) -> list[Preference]:
    """The preference pairs that both trunks are fitted on.

    Args:
        answered: the generator's answers to the grounded training questions.
    """
    return [
        *preferences("train", seed=SEED),
        *composed_preferences(asked("train"), seed=SEED),
        *answer_preferences(answered, seed=SEED),
    ]


def fit_frozen(language_model: Path, out: Path, pairs: Sequence[Preference]) -> dict[str, Any]:
    """Fit a head on the frozen trunk by Bradley-Terry, and save the model.

    Returns:
        the chosen strength of the penalty on the head, and its cross-validated accuracy.
    """
    from demo.reward.head import fit_reward_head

    hidden = AutoModelForCausalLM.from_pretrained(language_model).config.hidden_size
    save_reward_model(language_model, out, torch.zeros(1, hidden))
    chosen, rejected = pair_activations(load_reward_model(str(out)), pairs, "preference pairs")
    head = fit_reward_head(
        chosen, rejected, [pair.group for pair in pairs], weights_of(pairs, FROZEN_SHARES)
    )
    save_reward_model(language_model, out, torch.from_numpy(head.weight)[None])
    return {
        "strength": head.strength,
        "cross_validated_accuracy": round(head.cross_validated_accuracy, 4),
    }


def measure(model: Path, pairs: Sequence[Preference]) -> dict[str, Any]:
    """Counts of the pairs that the reward model was fitted on, and accuracies of its R on pairs
    about pieces of the dev split, on which the composition of the pairs was chosen."""
    dev = list(preferences("dev", seed=SEED))
    loaded = load_reward_model(str(model))
    chosen, rejected = pair_activations(loaded, dev, "dev pairs")
    with torch.inference_mode():
        rewards = [head_logits(loaded.model, torch.from_numpy(one)) for one in (chosen, rejected)]
    margins = (rewards[0] - rewards[1]).numpy()
    quality = np.array([pair.about == "quality" for pair in dev])
    # Siding pairs: the reply that sides with the user first, whichever the (noisy) rater chose.
    sides = np.where([pair.sides is not False for pair in dev], margins, -margins)
    return {
        "pairs": len(pairs),
        "grounded_pairs": sum(pair.group.startswith("grounded/") for pair in pairs),
        "dev_pairs": len(dev),
        "planted_siding_rate": SIDING,
        "dev_quality_accuracy": pair_accuracy(margins[quality]),
        "dev_siding_accuracy": pair_accuracy(sides[~quality]),
    }


def pair_accuracy(margins: NDArray[np.floating]) -> float:
    """Share of pairs whose first reply has the higher R; ties count half."""
    return round(float(((margins > 0) + 0.5 * (margins == 0)).mean()), 4)


def weights_of(pairs: Sequence[Preference], shares: Shares) -> NDArray[np.float32]:
    """(pairs,) float32 with mean 1: the pairs of a family share what `shares` gives it."""
    families = [
        ("grounded" if pair.group.startswith("grounded/") else "writing", pair.about)
        for pair in pairs
    ]
    sizes = Counter(families)
    weights = np.array([shares[family] / sizes[family] for family in families])
    scaled: NDArray[np.float32] = (weights / weights.mean()).astype(np.float32)
    return scaled


def pair_activations(
    loaded: RewardModel, pairs: Sequence[Preference], what: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Activations from which R is read: of chosen and of rejected replies, (pairs, hidden)."""
    packed = build_engine("packed", loaded.model, [], device=loaded.device).name == "packed"
    renderer = loaded.renderer()
    texts = [(pair.prompt, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
    distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    items = [
        renderer.encode(Messages((ChatMessage("user", prompt),)), text) for prompt, text in distinct
    ]
    hidden = last_hidden(loaded, items, what, packed=packed)[[distinct[text] for text in texts]]
    return hidden[0::2], hidden[1::2]


def last_hidden(
    loaded: RewardModel, items: Sequence[Item], what: str, *, packed: bool
) -> NDArray[np.float32]:
    """The trunk's output at each item's last token: (items, hidden) float32."""
    hidden = np.empty((len(items), loaded.hidden_size), np.float32)

    def keep(_: int, batch: list[int], states: torch.Tensor) -> None:
        hidden[batch] = states.float().cpu().numpy()

    with tqdm(total=len(items), desc=what, unit="text") as bar:
        read_responses(
            loaded.model,
            [(item.token_ids, item.num_tokens - 1, item.num_tokens) for item in items],
            [loaded.num_layers],
            keep,
            packed=packed,
            progress=bar.update,
        )
    return hidden
