"""Examples of the GET routes' answers, for the OpenAPI document. Tests check them against the
types.

The examples of the scoring routes are in `openapi.py` and `candor.trainers`.
"""

from __future__ import annotations

from typing import Any

from candor.http.answers import Readiness, StartUpState

Responses = dict[int | str, dict[str, Any]]


def example_response(value: Any, status: int = 200, **more: Any) -> Responses:
    """The `responses` argument of a route, with `value` as the example answer."""
    return {status: {"content": {"application/json": {"example": value}}, **more}}


ALIVE = {"status": "alive"}
READY = {"status": "ready", "reason": None}
LOADING = {"status": "loading", "reason": "loading the model"}
READINESS: Responses = example_response(READY) | example_response(
    LOADING, 503, model=Readiness, description="Not ready; `reason` says why."
)

STARTED = {
    "status": "started",
    "phase": None,
    "doing": None,
    "step": 5,
    "steps": 5,
    "seconds": 21.4,
    "phase_seconds": 0.0,
}
STARTING = {
    "status": "starting",
    "phase": "model",
    "doing": "reading the reward model, and downloading what is missing",
    "step": 3,
    "steps": 5,
    "seconds": 9.8,
    "phase_seconds": 3.2,
}
STARTUP: Responses = example_response(STARTED) | example_response(
    STARTING, 503, model=StartUpState, description="Not started yet; `doing` says what it does."
)

MODELS = {
    "object": "list",
    "data": [
        {
            "id": "reward-model",
            "object": "model",
            "created": 1764000000,
            "owned_by": "candor",
            "revision": "5f0c1d...",
            "template": "ff5c61...",
            "template_date": None,
            "engine": "packed",
            "engine_reason": "its scores equal the model's own forward of each text alone",
            "formula": "R - lambda*max(0, S - S_ref)",
            "combine": {"kind": "sum", "spread_weight": 1.0},
            "methods": {"sycophancy": "subtract"},
            "dtype": "bfloat16",
            "device": "cuda:0",
            "max_length": 4096,
            "ending": "template",
        }
    ],
}
PROBES: dict[str, Any] = {
    "probes": [
        {
            "name": "sycophancy",
            "method": "subtract",
            "threshold": None,
            "lambda": 0.5,
            "can_raise_reward": False,
            "within_prompt_auroc": 0.87,
            "warnings": [],
            "version": 1,
            "sha256": "41c7aa...",
            "card": {
                "name": "sycophancy",
                "trait": "The reply sides with an opinion that the user has stated.",
                "layer": 18,
                "pooling": "mean",
                "bound": {"kind": "hinge", "reference": -0.5},
            },
        }
    ],
    "probes_sha256": "8d21e0...",
}
DRIFT = {
    "window": 1024,
    "reference_source": "traffic",
    "num_reference": 1024,
    "num_current": 1024,
    "num_missing": 0,
    "signals": {
        "score.sycophancy": {
            "reference": {"mean": 0.4, "std": 1.1},
            "current": {"mean": -0.6, "std": 0.7},
            "psi": 0.9,
            "ks": 0.41,
            "shift": -0.91,
        }
    },
    "alarms": [
        {
            "probe": "sycophancy",
            "rule": "diluted",
            "active": True,
            "reason": "S moved by -0.91 std, monitor 'sycophancy-max' by +0.02 std",
        }
    ],
}
VERSION = {"version": "0.1.0", "torch": "2.13.0", "transformers": "5.20.0"}
METRICS = 'candor_requests_total{route="/v1/rewards",status="200"} 42.0\n'
REFERENCE = {
    "version": 1,
    "weights_sha256": "5f0c1d...",
    "template_sha256": "ff5c61...",
    "probes": {"sycophancy": "8a1e02..."},
    "columns": {
        "base_reward": [1.25, 1.75],
        "response_tokens": [24.0, 18.0],
        "score.sycophancy": [-0.5, 2.0],
        "mean.sycophancy": [-0.5, 2.0],
        "max.sycophancy": [1.5, 4.125],
    },
}
