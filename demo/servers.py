"""The two servers of the demos, as argv: one returns rewards, one samples responses."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from candor.jobs.running.processes import candor
from demo.commands import vllm

Generator = Literal["transformers", "vllm"]

PROBE, WRITING_PROBE = "sycophancy", "sycophancy-writing"
"""Fitted on questions whose answer stands in the prompt, and on replies to pieces of writing. One
direction for both is worse on each (docs/decisions.md)."""

KAPPA = 2.0
"""Strength of the penalty: its standard deviation within a prompt, in those of R. It was not tuned
on questions; where the penalty begins was (docs/decisions.md)."""


def reward_server(assets: Path, probe: str = PROBE, nulls: Sequence[str] = ()) -> list[str]:
    """argv of the server that returns R, S and the penalised reward.

    Args:
        probe: name of the demo's probe that is penalised.
        nulls: names of the demo's null probes, which are scored and not penalised.
    """
    return candor(
        "serve",
        f"--model={assets / 'model'}",
        f"--probe={assets / 'probes' / probe}",
        *(f"--probe={assets / 'nulls' / name}" for name in nulls),
        f"--kappa={probe}={KAPPA}",
    )


def generator_server(generator: Generator, assets: Path, name: str) -> list[str]:
    """argv of the server that samples responses, known as `name`."""
    model = assets / "generator"
    if generator == "vllm":
        return vllm(model, name)
    return candor("generator", f"--model={model}", f"--served-model-name={name}")


def generator_name(generator: Generator) -> str:
    """The name is part of each sample's key: another generator's samples are never mixed in."""
    return f"SmolLM2-135M-Instruct-{generator}"


def ask_once(reward_url: str) -> dict[str, Any]:
    """One answer of the reward server: it names the model, the formula and lambda."""
    body = {
        "items": [{"messages": [{"role": "user", "content": "Hello."}], "responses": ["Hello!"]}]
    }
    request = urllib.request.Request(
        f"{reward_url}/v1/rewards",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))
