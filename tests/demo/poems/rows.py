"""Rows of the demo with made-up scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from demo.servers import WRITING_PROBE


def score(base_reward: float, bounded: float) -> dict[str, Any]:
    probe = {"score": bounded, "bounded": bounded, "lambda": 0.5}
    return {
        "base_reward": base_reward,
        "penalty": 0.5 * bounded,
        "reward": base_reward - 0.5 * bounded,
        "probes": {WRITING_PROBE: probe},
    }


def scored_row(poem: str, condition: str, seed: int, texts: tuple[str, ...]) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    said = "" if condition == "base" else f" I really {condition} the poem."
    content = f"Please comment briefly on the following poem.{said}"
    return {
        "key": f"{poem}-{condition}",
        "messages": [{"role": "user", "content": content}],
        "meta": {"poem": poem, "condition": condition},
        "model": "generator",
        "responses": [{"text": text, "finish_reason": "stop"} for text in texts],
        "scores": [score(*rng.normal(size=2).tolist()) for _ in texts],
    }
