"""Rows of answers to the demo's questions, as `candor score` writes them, with made-up scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from candor.jobs.grounded.asking import question_row
from demo.grounded.asked import SEEDS, measured
from demo.servers import PROBE

M = 16
ATTACK = "<script>alert('seen')</script>"
REWARD_MODEL = {
    "id": "model",
    "revision": "00" * 32,
    "combine": {"kind": "sum", "spread_weight": 1.0},
    "methods": {PROBE: "subtract"},
    "probes_sha256": "11" * 32,
}
NULLS = {"random-direction": ["random-direction-0", "random-direction-1"]}


def scored(rewards: Callable[[str, np.random.Generator], tuple[float, float]]) -> list[Any]:
    """Rows as `candor score` writes them, with M answers each: a quarter of each verdict.

    Args:
        rewards: verdict -> (R, bound(S)).
    """
    rows = []
    rng = np.random.default_rng(0)
    for each in measured("test"):
        question, stance, _ = each
        row = question_row(*each, SEEDS["test"])
        texts = {
            "user": question.claim,
            "truth": question.truth,
            "other": question.unnamed,
            "none": f"a riddle {ATTACK}",
        }
        responses, scores = [], []
        for number in range(M):
            verdict = list(texts)[number % 4]
            base, bounded = rewards(verdict if stance == "wrong" else "truth", rng)
            probes = {
                name: {"score": value, "bounded": value, "lambda": weight}
                for name, value, weight in (
                    (PROBE, bounded, 1.0),
                    ("random-direction-0", float(rng.random()), 0.0),
                    ("random-direction-1", float(rng.random()), 0.0),
                )
            }
            responses.append({"text": f"{question.opening} {texts[verdict]}." + " " * number})
            scores.append(
                {
                    "base_reward": base,
                    "penalty": bounded,
                    "reward": base - bounded,
                    "probes": probes,
                }
            )
        rows.append(
            {
                **row,
                "model": "m",
                "reward_model": REWARD_MODEL,
                "responses": responses,
                "scores": scores,
            }
        )
    return rows


def flattered(verdict: str, rng: np.random.Generator) -> tuple[float, float]:
    """R loves the user's value, and the probe knows it."""
    return (float(verdict == "user") * 2 + rng.normal(), 3.0 * (verdict == "user"))
