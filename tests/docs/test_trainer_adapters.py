"""The pages of docs/trainers/ whose trainer takes a Python function: the adapter sends the request
that the page prints, and NeMo Gym's class answers as the page says."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

from candor.client.nemo import gym_reward
from candor.client.rows import RewardServer
from candor.client.trl import reward_function
from candor.client.verifiers import candor_reward
from candor.client.verl import compute_score
from tests.client.asking import native, run
from tests.docs.trainer_pages import FOLDER, block, exchanges
from tests.service.serving import running, tiny_app


class Recording:
    """Keeps the bodies of `/v1/rewards`."""

    def __init__(self, app: ASGIApp, bodies: list[Any]) -> None:
        self.app = app
        self.bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content = b""

        async def heard() -> Any:
            nonlocal content
            message = await receive()
            content += message.get("body", b"")
            if content and not message.get("more_body"):
                self.bodies.append(json.loads(content))
                content = b""
            return message

        is_call = scope["type"] == "http" and scope["path"] == "/v1/rewards"
        await self.app(scope, heard if is_call else receive, send)


BODIES: list[Any] = []


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    app = tiny_app()
    app.add_middleware(Recording, bodies=BODIES)
    with running(app) as url:
        yield url


def printed(page: str) -> Any:
    """The body of `/v1/rewards` that a page prints."""
    (request,) = [
        one.request for one in exchanges(FOLDER / f"{page}.md") if one.path == "/v1/rewards"
    ]
    return json.loads(request)


def conversation(page: str) -> tuple[list[dict[str, str]], list[str]]:
    (item,) = printed(page)["items"]
    return item["messages"], item["responses"]


class Dumped:
    """What the adapters read of a pydantic object."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def model_dump(self, **_: Any) -> dict[str, Any]:
        return self.fields


class PageTrace:
    """The part of verifiers' trace that its adapter reads."""

    def __init__(self, *messages: dict[str, str]) -> None:
        self.messages = [Dumped(**message) for message in messages]

    def record_metric(self, name: str, value: float) -> None:
        pass


def call(page: str, url: str) -> Any:
    """One call of the page's adapter, with the conversation that the page prints."""
    messages, responses = conversation(page)
    said = [{"role": "assistant", "content": response} for response in responses]
    if page == "trl":
        completions = [[turn] for turn in said]
        return reward_function(url)(prompts=[messages] * len(said), completions=completions)
    if page == "verl":
        return compute_score("c", responses[0], extra_info={"prompt": messages}, url=url)
    if page == "verifiers":
        return candor_reward(PageTrace(*messages, said[0]), server=RewardServer(url))
    part = {"type": "output_text", "text": responses[0], "annotations": []}
    body = types.SimpleNamespace(
        responses_create_params=Dumped(input=messages),
        response=Dumped(output=[{"type": "message", "role": "assistant", "content": [part]}]),
    )
    return gym_reward(body, server=RewardServer(url))


@pytest.mark.parametrize("page", ["trl", "verl", "verifiers", "nemo"])
def test_the_adapters_send_what_the_pages_print(page: str, url: str) -> None:
    BODIES.clear()
    run(lambda: call(page, url))
    assert [printed(page)] == BODIES


class ParametersOfGym(BaseModel):
    """`NeMoGymResponseCreateParamsNonStreaming` (nemo_gym/openai_utils.py at 07d6b0d)."""

    input: Any


class ResponseOfGym(BaseModel):
    """`NeMoGymResponse`."""

    output: list[dict[str, Any]]


class RequestOfGym(BaseModel):
    """`BaseVerifyRequest` (nemo_gym/base_resources_server.py)."""

    responses_create_params: ParametersOfGym
    response: ResponseOfGym


class AnswerOfGym(RequestOfGym):
    """`BaseVerifyResponse`."""

    reward: float


def test_nemo_gyms_class_answers_with_the_penalised_reward(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's file, with stand-ins of NeMo Gym's classes: NeMo Gym is not installed here."""
    module = types.ModuleType("nemo_gym.base_resources_server")
    module.BaseVerifyRequest = RequestOfGym  # type: ignore[attr-defined]
    module.BaseVerifyResponse = AnswerOfGym  # type: ignore[attr-defined]
    module.SimpleResourcesServer = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nemo_gym", types.ModuleType("nemo_gym"))
    monkeypatch.setitem(sys.modules, "nemo_gym.base_resources_server", module)
    monkeypatch.setenv("CANDOR_REWARD_URL", url)
    code = block(Path(FOLDER / "nemo.md"), "from nemo_gym", "python")
    names: dict[str, Any] = {"__name__": "flattery"}
    exec(code, names)  # noqa: S102
    messages, responses = conversation("nemo")
    part = {"type": "output_text", "text": responses[0], "annotations": []}
    body = RequestOfGym(
        responses_create_params=ParametersOfGym(input=messages),
        response=ResponseOfGym(
            output=[{"type": "message", "role": "assistant", "content": [part]}]
        ),
    )
    answer = run(lambda: names["Flattery"]().verify(body))
    (expected,) = native(url, responses, messages=messages)
    assert answer.reward == pytest.approx(expected.reward, abs=1e-5)
    assert answer.base_reward == pytest.approx(expected.base_reward, abs=1e-5)
    assert answer.penalty == pytest.approx(expected.penalty, abs=1e-5)
    assert answer.probe_sycophancy == pytest.approx(expected.probes["sycophancy"].score, abs=1e-5)
