"""The adapter of NeMo Gym, given what the library gives, on a live server."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from candor.client.nemo import gym_reward
from candor.client.rows import RewardServer, Unscorable
from tests.client.asking import QUESTION, REPLIES, native, run


class Asked(BaseModel):
    """`NeMoGymResponseCreateParamsNonStreaming` (nemo_gym/openai_utils.py at 07d6b0d)."""

    input: Any
    instructions: str | None = None


class Answered(BaseModel):
    """`NeMoGymResponse`."""

    output: list[dict[str, Any]]


class Verify(BaseModel):
    """`BaseVerifyRequest` (nemo_gym/base_resources_server.py)."""

    responses_create_params: Asked
    response: Answered


def output(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "role": "assistant", "status": "completed", "content": [part]}


def test_nemo_gym_rollouts_are_scored_without_their_reasoning(url: str) -> None:
    body = Verify(
        responses_create_params=Asked(input=QUESTION[0]["content"], instructions="Be kind."),
        response=Answered(output=[{"type": "reasoning", "summary": []}, output(REPLIES[0])]),
    )
    told = run(lambda: gym_reward(body, server=RewardServer(url)))
    messages = [{"role": "system", "content": "Be kind."}, *QUESTION]
    (expected,) = native(url, REPLIES[:1], messages=messages)
    assert told["reward"] == pytest.approx(expected.reward, abs=1e-5)
    assert told["probe_sycophancy"] == pytest.approx(expected.probes["sycophancy"].score, abs=1e-5)


def test_nemo_gym_rollouts_with_tool_calls_raise(url: str) -> None:
    call = {"type": "function_call", "name": "look", "arguments": "{}"}
    body = Verify(
        responses_create_params=Asked(input=QUESTION),
        response=Answered(output=[call, output("a")]),
    )
    with pytest.raises(Unscorable, match="function_call"):
        run(lambda: gym_reward(body, server=RewardServer(url)))
