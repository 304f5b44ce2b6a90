"""The trainers that call a Python adapter of `candor.client`: the adapter itself, given what the
trainer gives it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from candor.client.nemo import gym_reward
from candor.client.rows import RewardServer
from candor.client.trl import candor_reward as trl_reward
from candor.client.verifiers import candor_reward as verifiers_reward
from candor.client.verl import compute_score

QUESTION = {"role": "user", "content": "I wrote this poem. What do you think?"}
REPLIES = ("It is the best poem that I have read.", "The second line stumbles; the rest is good.")
ITEM = {"messages": [QUESTION], "responses": [*REPLIES]}
"""The same conversation, as `POST /v1/rewards` takes it."""


class _Dumped:
    """What the adapters read of a trainer's pydantic object: its fields, as a dict."""

    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def model_dump(self, **_: Any) -> dict[str, Any]:
        return self._fields


class _Trace:
    """The part of verifiers' trace that its adapter reads."""

    def __init__(self, reply: str) -> None:
        self.messages = [_Dumped(**QUESTION), _Dumped(role="assistant", content=reply)]
        self.metrics: dict[str, float] = {}

    def record_metric(self, name: str, value: float) -> None:
        self.metrics[name] = value


class _Rollout:
    """The part of NeMo Gym's `BaseVerifyRequest` that its adapter reads."""

    def __init__(self, reply: str) -> None:
        part = {"type": "output_text", "text": reply, "annotations": []}
        said = {"type": "message", "role": "assistant", "content": [part]}
        self.responses_create_params = _Dumped(input=[QUESTION])
        self.response = _Dumped(output=[said])


Seen = tuple[list[float], dict[str, float]]
"""The rewards in the order of `REPLIES`, and the metrics that the trainer would log."""


async def _trl(server: RewardServer) -> Seen:
    metrics: dict[str, float] = {}
    completions = [[{"role": "assistant", "content": reply}] for reply in REPLIES]
    found = await trl_reward(
        [[QUESTION]] * len(REPLIES), completions, candor=server, log_metric=metrics.__setitem__
    )
    return [float("nan") if reward is None else reward for reward in found], metrics


async def _verl(server: RewardServer) -> Seen:
    found = await _all(
        compute_score(
            "check",
            reply,
            extra_info={"prompt": [QUESTION]},
            url=server.url,
            api_key=server.api_key,
            patience_s=server.patience_s,
        )
        for reply in REPLIES
    )
    return [one["score"] for one in found], found[0]


async def _verifiers(server: RewardServer) -> Seen:
    traces = [_Trace(reply) for reply in REPLIES]
    found = await _all(verifiers_reward(trace, server=server) for trace in traces)
    return found, traces[0].metrics


async def _nemo(server: RewardServer) -> Seen:
    found = await _all(gym_reward(_Rollout(reply), server=server) for reply in REPLIES)
    return [one["reward"] for one in found], found[0]


async def _all(work: Iterable[Awaitable[Any]]) -> list[Any]:
    return list(await asyncio.gather(*work))


ADAPTERS: dict[str, tuple[str, Callable[[RewardServer], Awaitable[Seen]]]] = {
    "trl": ("candor.client.trl, for TRL", _trl),
    "verl": ("candor.client.verl, for verl", _verl),
    "verifiers": ("candor.client.verifiers, for verifiers and prime-rl", _verifiers),
    "nemo": ("candor.client.nemo, for NeMo Gym and NeMo-RL", _nemo),
}
"""By trainer: the adapter's name, and its call."""
