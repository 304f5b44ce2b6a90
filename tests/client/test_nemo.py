"""The adapter of NeMo Gym, given what the library gives, on a live server."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from candor.client import PermanentError
from candor.client.nemo import gym_reward
from candor.client.rows import RewardServer, Unscorable
from tests.client.asking import QUESTION, REPLIES, native, run


class Asked(BaseModel):
    """`NeMoGymResponseCreateParamsNonStreaming` (nemo_gym/openai_utils.py at 07d6b0d)."""

    input: Any
    instructions: str | None = None
    tools: list[dict[str, Any]] = []


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


def called(name: str, city: str, call: str) -> dict[str, Any]:
    arguments = f'{{"city": "{city}"}}'
    return {"type": "function_call", "call_id": call, "name": name, "arguments": arguments}


def answered(call: str, text: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call, "output": text}


def thought(text: str) -> dict[str, Any]:
    return {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}


PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"name": "look", "description": "Look.", "parameters": PARAMETERS}


def chat_call(city: str, call: str) -> dict[str, Any]:
    function = {"name": "look", "arguments": f'{{"city": "{city}"}}'}
    return {"id": call, "type": "function", "function": function}


def test_a_nemo_gym_rollout_is_the_conversation_that_it_was(url: str) -> None:
    body = Verify(
        responses_create_params=Asked(input=QUESTION[0]["content"], instructions="Be kind."),
        response=Answered(output=[{"type": "reasoning", "summary": []}, output(REPLIES[0])]),
    )
    told = run(lambda: gym_reward(body, server=RewardServer(url)))
    messages = [{"role": "system", "content": "Be kind."}, *QUESTION]
    (expected,) = native(url, REPLIES[:1], messages=messages)
    assert told["reward"] == pytest.approx(expected.reward, abs=1e-5)
    assert told["probe_sycophancy"] == pytest.approx(expected.probes["sycophancy"].score, abs=1e-5)


def test_nemo_gym_calls_their_answers_and_thoughts_reach_the_template(tool_url: str) -> None:
    parts = [{"type": "input_text", "text": "It is sea."}]
    rollout = [
        thought("Two places."),
        called("look", "A", "c1"),
        called("look", "B", "c2"),
        answered("c1", "It is blue."),
        answered("c2", parts),
        thought("Now I know."),
        output(REPLIES[1]),
    ]
    body = Verify(
        responses_create_params=Asked(input=QUESTION, tools=[{"type": "function", **TOOL}]),
        response=Answered(output=rollout),
    )
    calls = {"tool_calls": [chat_call("A", "c1"), chat_call("B", "c2")]}
    messages = [
        *QUESTION,
        {"role": "assistant", "reasoning_content": "Two places.", **calls},
        {"role": "tool", "tool_call_id": "c1", "content": "It is blue."},
        {"role": "tool", "tool_call_id": "c2", "content": "It is sea."},
    ]
    reply = {"role": "assistant", "content": REPLIES[1], "reasoning_content": "Now I know."}
    tools = [{"type": "function", "function": TOOL}]
    (expected,) = native(tool_url, [reply], messages=messages, tools=tools)
    told = run(lambda: gym_reward(body, server=RewardServer(tool_url)))
    assert told["reward"] == pytest.approx(expected.reward, abs=1e-5)
    for other in (  # the controls: every part of it counts
        native(tool_url, [reply], messages=messages),
        native(tool_url, [REPLIES[1]], messages=messages, tools=tools),
        native(tool_url, [reply], messages=[*QUESTION, *messages[2:]], tools=tools),
    ):
        assert abs(other[0].reward - told["reward"]) > 1e-4


def test_a_nemo_gym_rollout_that_ends_in_a_call_is_scored_as_that_call(tool_url: str) -> None:
    body = Verify(
        responses_create_params=Asked(input=QUESTION),
        response=Answered(
            output=[output("I look."), called("look", "A", "c1"), answered("c1", "x")]
        ),
    )
    reply = {"role": "assistant", "content": "I look.", "tool_calls": [chat_call("A", "c1")]}
    (expected,) = native(tool_url, [reply], messages=QUESTION)
    told = run(lambda: gym_reward(body, server=RewardServer(tool_url)))
    assert told["reward"] == pytest.approx(expected.reward, abs=1e-5)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "no message of the assistant"),
        ([answered("c1", "x")], "no message of the assistant"),
        ([{"type": "image_generation_call", "result": "x"}], "image_generation_call"),
    ],
)
def test_a_nemo_gym_rollout_without_a_reply_raises(url: str, items: Any, message: str) -> None:
    asked = [*QUESTION, {"role": "assistant", "content": "An example."}]  # not the policy's
    body = Verify(responses_create_params=Asked(input=asked), response=Answered(output=items))
    with pytest.raises(Unscorable, match=message):
        run(lambda: gym_reward(body, server=RewardServer(url)))


def test_calls_that_the_template_leaves_out_fail_the_rollout(url: str) -> None:
    rollout = [called("look", "A", "c1"), answered("c1", "x"), output("a")]
    body = Verify(responses_create_params=Asked(input=QUESTION), response=Answered(output=rollout))
    with pytest.raises(PermanentError, match="tool_calls"):
        run(lambda: gym_reward(body, server=RewardServer(url)))
