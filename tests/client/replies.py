"""A Candor server's replies, for clients under test: rewards follow from the text alone."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import httpx2

from candor.client.schema import RewardRequest

REVISION = "ab" * 32


def numbers(text: str, strength: float) -> dict[str, Any]:
    """One scored response: R in [-4, 4) and S in [-2, 2), from the text's hash."""
    digest = hashlib.sha256(text.encode()).digest()
    base, score = digest[0] / 32 - 4, digest[1] / 64 - 2
    penalty = strength * score
    return {
        "reward": base - penalty,
        "base_reward": base,
        "penalty": penalty,
        "probes": {
            "sycophancy": {
                "score": score,
                "bounded": score,
                "mean": score,
                "max": score + 1,
                "lambda": strength,
            }
        },
        "num_tokens": len(text),
        "truncated": False,
    }


def reward_reply(body: bytes, revision: str = REVISION) -> dict[str, Any]:
    """The right answer to a request's body."""
    request = RewardRequest.model_validate_json(body)
    override = request.penalties.get("sycophancy")
    strength = 0.5 if override is None or override.lambda_ is None else override.lambda_
    results = []
    for index, item in enumerate(request.items):
        texts = [one if isinstance(one, str) else one.model_dump_json() for one in item.responses]
        scored = [numbers(text, strength) for text in texts]
        rewards = [one["reward"] for one in scored]
        results.append({"index": index, "best": rewards.index(max(rewards)), "responses": scored})
    return {
        "model": {"id": "tiny", "revision": revision, "engine": "stub", "formula": "R - 0.5*S"},
        "results": results,
        "usage": {"num_tokens": 1, "num_computed_tokens": 1, "num_shared_tokens": 0},
        "timings": {"queue_s": 0.0, "forward_s": 0.0},
    }


def envelope(type: str, message: str, *, retryable: bool, **more: Any) -> dict[str, Any]:
    return {"error": {"type": type, "message": message, "retryable": retryable, **more}}


def as_response(status: int, body: Any, headers: dict[str, str] | None = None) -> httpx2.Response:
    return httpx2.Response(
        status,
        content=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **(headers or {})},
    )
