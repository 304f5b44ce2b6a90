"""The generator client: what it asks an OpenAI-form server for, and which replies it refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from candor.client import (
    AsyncGeneratorClient,
    Completion,
    InvalidReply,
    PermanentError,
    Retry,
    Unreachable,
    WrongModel,
)
from candor.client.generator import is_version_of
from tests.client.replies import as_response

MESSAGES = [{"role": "user", "content": "Write a line."}]


def chat(n: int, **changes: Any) -> dict[str, Any]:
    """A reply in OpenAI's form, with fields we do not use, choices out of order."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": f"line {index}", "tool_calls": []},
            "finish_reason": "length" if index else "stop",
            "logprobs": None,
        }
        for index in reversed(range(n))
    ]
    return {"id": "x", "object": "chat.completion", "model": "lm", "choices": choices, **changes}


def draw(
    answer: Callable[[dict[str, Any]], httpx2.Response],
    *,
    served: list[str] | None = None,
    url: str = "http://lm",
    prefix: str = "",
) -> tuple[list[Completion], list[httpx2.Request]]:
    seen: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        if request.url.path == "/v1/models":
            names = ["other", "lm"] if served is None else served
            return as_response(200, {"data": [{"id": name, "object": "model"} for name in names]})
        return answer(json.loads(request.content))

    async def run() -> list[Completion]:
        async with AsyncGeneratorClient(
            url,
            model="lm",
            api_key="k",
            retry=Retry(budget_s=0),
            transport=httpx2.MockTransport(handler),
        ) as client:
            return await client.complete(
                MESSAGES, n=3, temperature=0.8, max_tokens=5, seed=7, prefix=prefix
            )

    return asyncio.run(run()), seen


@pytest.mark.parametrize("url", ["http://lm", "http://lm/", "http://lm/v1", "http://lm/v1/"])
def test_n_samples_come_back_in_the_order_of_their_index(url: str) -> None:
    completions, seen = draw(lambda body: as_response(200, chat(3)), url=url)
    assert completions == [
        Completion("line 0", "stop"),
        Completion("line 1", "length"),
        Completion("line 2", "length"),
    ]
    assert [request.url.path for request in seen] == ["/v1/models", "/v1/chat/completions"]
    assert seen[1].headers["Authorization"] == "Bearer k"
    assert json.loads(seen[1].content) == {
        "model": "lm",
        "messages": MESSAGES,
        "n": 3,
        "temperature": 0.8,
        "top_p": 1.0,
        "max_tokens": 5,
        "seed": 7,
    }


def test_a_prefix_opens_the_assistants_turn_and_every_text() -> None:
    """The fields are vLLM's: vllm/entrypoints/openai/chat_completion/protocol.py at 002032ee."""
    completions, seen = draw(lambda body: as_response(200, chat(3)), prefix="My thoughts:\n")
    assert [one.text for one in completions] == [f"My thoughts:\nline {n}" for n in range(3)]
    body = json.loads(seen[1].content)
    assert body["messages"] == [*MESSAGES, {"role": "assistant", "content": "My thoughts:\n"}]
    assert body["continue_final_message"] is True
    # vLLM refuses a request with both.
    assert body["add_generation_prompt"] is False
    assert body["echo"] is False


def test_a_server_that_sends_the_prefix_back_is_refused_not_doubled() -> None:
    """vllm-project/vllm issue 10111: echo was ignored. One text of three may begin so by chance."""
    with pytest.raises(InvalidReply, match="prefix back"):
        draw(lambda body: as_response(200, chat(3)), prefix="line ")
    completions, _ = draw(lambda body: as_response(200, chat(3)), prefix="line 1")
    assert [one.text for one in completions] == [f"line 1line {n}" for n in range(3)]


def test_a_server_without_the_model_asked_for_is_refused_before_any_prompt_is_sent() -> None:
    def answer(body: dict[str, Any]) -> httpx2.Response:
        raise AssertionError("a prompt was sent")

    with pytest.raises(WrongModel, match=r"serves lm-7b, other, not lm"):
        draw(answer, served=["lm-7b", "other"])
    with pytest.raises(WrongModel, match="serves nothing"):
        draw(answer, served=[])


def test_a_reply_from_another_model_is_refused() -> None:
    with pytest.raises(WrongModel, match="the reply is from lm-7b"):
        draw(lambda body: as_response(200, chat(3, model="lm-7b")))


@pytest.mark.parametrize(
    ("asked", "told", "same"),
    [
        ("m", "m", True),
        ("m", "m-2026-01-01", True),
        ("m", "m-20260101", True),
        ("m", "m@20260101", True),
        ("m", "m-0613", True),
        ("m", "m-002", True),
        ("m", "m:latest", True),
        ("m-latest", "m-20260101", True),
        ("org/m", "org/m-2026-01-01", True),
        ("m", "other", False),
        ("m", "m2", False),
        ("m", "m-70", False),
        ("m", "m-7b", False),
        ("m", "m-1999", False),
        ("m", "m-mini", False),
        ("m", "m-mini-2026-01-01", False),
        ("m", "m-2026-01-01-preview", False),
        ("m-2026-01-01", "m", False),
        ("m-2026-01-01", "m-2026-02-02", False),
        ("m", "xm-2026-01-01", False),
        ("m.1", "mx1-2026-01-01", False),
    ],
)
def test_a_dated_name_is_the_alias_it_stands_for_and_no_other_name_is(
    asked: str, told: str, same: bool
) -> None:
    assert is_version_of(told, asked) is same


def test_a_dated_alias_is_accepted_and_kept_with_the_text() -> None:
    completions, _ = draw(
        lambda body: as_response(200, chat(3, model="lm-2026-01-01")), served=["lm-2026-01-01"]
    )
    assert {one.model for one in completions} == {"lm-2026-01-01"}


def test_a_text_that_ended_in_thinking_is_empty() -> None:
    thought = choice(message={"content": None, "reasoning_content": "hm"}, finish_reason="length")
    reply = {**chat(2), "choices": [*chat(2)["choices"], thought]}
    completions, _ = draw(lambda body: as_response(200, reply))
    assert completions[2] == Completion("", "length")


def choice(**changes: Any) -> dict[str, Any]:
    return {"index": 2, "message": {"content": "x"}, "finish_reason": "stop", **changes}


@pytest.mark.parametrize(
    "reply",
    [
        chat(2),
        chat(4),
        chat(0),
        {"model": "lm"},
        {**chat(2), "choices": [*chat(2)["choices"], choice(index=1)]},
        {**chat(2), "choices": [*chat(2)["choices"], choice(finish_reason="abort")]},
        {**chat(2), "choices": [*chat(2)["choices"], choice(finish_reason=None)]},
        {**chat(2), "choices": [*chat(2)["choices"], choice(message={"content": None})]},
    ],
)
def test_a_reply_that_does_not_hold_n_finished_texts_is_refused(reply: dict[str, Any]) -> None:
    with pytest.raises(InvalidReply):
        draw(lambda body: as_response(200, reply))


def test_the_same_reply_with_a_finished_third_choice_is_taken() -> None:
    reply = {**chat(2), "choices": [*chat(2)["choices"], choice()]}
    completions, _ = draw(lambda body: as_response(200, reply))
    assert completions[2] == Completion("x", "stop")


def test_half_an_emoji_in_a_reply_is_refused_rather_than_written_to_a_file() -> None:
    content = json.dumps(chat(3)).replace("line 1", "\\ud83d").encode()
    with pytest.raises(InvalidReply):
        draw(lambda body: httpx2.Response(200, content=content))


def test_an_openai_form_error_keeps_its_type_and_message() -> None:
    body = {"error": {"message": "max_tokens is too large", "type": "BadRequestError", "code": 400}}
    with pytest.raises(PermanentError, match="max_tokens is too large") as caught:
        draw(lambda asked: as_response(400, body))
    assert (caught.value.type, caught.value.status) == ("BadRequestError", 400)


def test_a_server_that_is_not_there_is_unreachable() -> None:
    async def run() -> None:
        async with AsyncGeneratorClient("http://127.0.0.1:9", model="lm", retry=Retry(budget_s=0)):
            raise AssertionError("entered without a server")

    with pytest.raises(Unreachable, match="ConnectError"):
        asyncio.run(run())
