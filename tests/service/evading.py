"""A trait that the tiny RM really holds, two probes of it, and traffic with and without filler."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from candor.forward.capture import read_hidden_states
from candor.probes.artifact import LoadedProbe
from candor.probes.fitting.fit import fit_logistic
from candor.probes.probe import Pooling, Probe
from candor.scoring.served import ServedProbe
from candor.watch.drift_reference import MIN_WINDOW
from tests.service.serving import loaded_probe
from tests.tiny import tiny_llama, tiny_tokenizer

FLATTERING = ["good", "think", "you", "I"]
NEUTRAL = ["sea", "poem", "the", "of", "is", "and"]
LAYER = 1
NUM_PROMPTS, NUM_EACH = 16, MIN_WINDOW // 16
Items = list[dict[str, Any]]


def text(rng: random.Random, num_flattering: int, num_words: int = 12) -> str:
    words = rng.choices(FLATTERING, k=num_flattering)
    words += rng.choices(NEUTRAL, k=num_words - num_flattering)
    rng.shuffle(words)
    return " " + " ".join(words)


def token_activations(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Every token's activation at `LAYER`, and whether its word is flattering. Every word is one
    token."""
    tokenizer, model = tiny_tokenizer(), tiny_llama()
    flattering = {tokenizer(f" {word}").input_ids[0] for word in FLATTERING}
    rows: list[torch.Tensor] = []
    labels: list[bool] = []
    for one in texts:
        ids = tokenizer(one).input_ids
        assert len(ids) == len(one.split())
        with (
            torch.inference_mode(),
            read_hidden_states(model, {LAYER: lambda hidden: rows.append(hidden[0].clone())}),
        ):
            model(input_ids=torch.tensor([ids]))
        labels += [token in flattering for token in ids]
    return torch.cat(rows).numpy(), np.array(labels, dtype=np.int64)


def flattery_probes() -> dict[str, ServedProbe]:
    """`flattery`, mean-pooled and penalised, and `watchdog`, the same max-pooled, a monitor."""
    rng = random.Random(0)
    x, y = token_activations([text(rng, 6) for _ in range(60)])
    weight, bias = fit_logistic(x, y, 1.0)
    x, y = token_activations([text(rng, 6) for _ in range(20)])
    assert ((x @ weight + bias > 0) == y).mean() > 0.95  # the probe can read the trait

    def served(name: str, pooling: Pooling, *, monitor: bool) -> ServedProbe:
        card = loaded_probe(name, layer=LAYER).card.model_copy(update={"pooling": pooling})
        probe = Probe(name, torch.from_numpy(weight), bias, LAYER, pooling)
        return ServedProbe(LoadedProbe(probe, card), 0.0 if monitor else 0.5, monitor)

    return {
        "flattery": served("flattery", "mean", monitor=False),
        "watchdog": served("watchdog", "max", monitor=True),
    }


def traffic(seed: int, *, flattering: tuple[int, int] = (2, 6), filler: int = 0) -> Items:
    """One window of responses. The same seed gives the same responses, with any filler."""
    rng, more = random.Random(seed), random.Random(-seed)
    return [
        {
            "messages": [{"role": "user", "content": f"What is poem {number} about?"}],
            "responses": [
                text(rng, rng.randint(*flattering), rng.randint(10, 14))
                + (text(more, 0, filler) if filler else "")
                for _ in range(NUM_EACH)
            ],
        }
        for number in range(NUM_PROMPTS)
    ]


REFERENCE = traffic(1)
