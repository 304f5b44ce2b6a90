"""The reward clients: what they send, what they refuse to believe, and waiting for a server."""

from __future__ import annotations

import asyncio
import copy
import json
import socket
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from candor.client import (
    AsyncRewardClient,
    InvalidReply,
    ModelChanged,
    NotReadyInTime,
    PermanentError,
    Retry,
    RewardClient,
)
from candor.client.schema import RewardResponse
from candor.client.wire import parse_reply, reward_request
from tests.client.replies import as_response, envelope, reward_reply

ITEMS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "Is my poem good?"}], "responses": ["Yes!", "No."]},
    {"prompt": "2+2=", "templated": True, "responses": ["4"]},
]
QUICK = Retry(budget_s=10, first_s=0.001, cap_s=0.002)
Handler = Callable[[httpx2.Request], httpx2.Response]


def right(request: httpx2.Request) -> httpx2.Response:
    return as_response(200, reward_reply(request.content))


def ask(
    handler: Handler, *, use_async: bool = False, times: int = 1, **arguments: Any
) -> RewardResponse:
    """The last reply of `times` calls by one client whose server is `handler`."""
    transport = httpx2.MockTransport(handler)
    calls = {"items": ITEMS, **arguments}
    options: dict[str, Any] = {"api_key": "s3cret", "timeout_s": 33.5, "retry": QUICK}

    async def run_async() -> RewardResponse:
        async with AsyncRewardClient("http://rm", transport=transport, **options) as client:
            for _ in range(times):
                reply = await client.rewards(**calls)
            return reply

    if use_async:
        return asyncio.run(run_async())
    with RewardClient("http://rm", transport=transport, **options) as client:
        for _ in range(times):
            reply = client.rewards(**calls)
        return reply


@pytest.mark.parametrize("use_async", [False, True])
def test_both_clients_send_the_same_request_and_read_the_same_reply(use_async: bool) -> None:
    seen: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return right(request)

    reply = ask(
        handler, use_async=use_async, penalties={"sycophancy": {"lambda": 2}}, truncation="left"
    )
    (request,) = seen
    assert (request.method, request.url) == ("POST", "http://rm/v1/rewards")
    assert request.headers["Authorization"] == "Bearer s3cret"
    assert request.headers["X-Request-Timeout"] == "33.5"
    assert request.headers["Content-Type"] == "application/json"
    body = json.loads(request.content)
    assert body["items"] == ITEMS
    assert body["penalties"] == {"sycophancy": {"lambda": 2.0}}
    assert body["truncation"] == "left"
    scored = reply.results[0].responses[0]
    assert scored.probes["sycophancy"].lambda_ == 2.0
    assert scored.reward == scored.base_reward - scored.penalty
    assert [len(result.responses) for result in reply.results] == [2, 1]


def test_a_key_is_sent_without_white_space_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CANDOR_API_KEY", raising=False)
    sent: list[str | None] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        sent.append(request.headers.get("Authorization"))
        return right(request)

    for key in ("s3cret\n", "", None):
        with RewardClient("http://rm", api_key=key, transport=httpx2.MockTransport(handler)) as one:
            one.rewards(ITEMS)
    assert sent == ["Bearer s3cret", None, None]
    for wrong in ("k\u00e9y", "a\nb"):
        with pytest.raises(ValueError, match="key") as failed:
            RewardClient("http://rm", api_key=wrong)
        assert wrong not in str(failed.value)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_client_that_is_given_no_key_takes_the_one_of_the_environment(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANDOR_API_KEY", "of-environment\n")
    sent: list[str | None] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        sent.append(request.headers.get("Authorization"))
        return right(request)

    async def ask(key: str | None) -> None:
        transport = httpx2.MockTransport(handler)
        async with AsyncRewardClient("http://rm", api_key=key, transport=transport) as client:
            await client.rewards(ITEMS)

    for key in (None, "given", ""):
        if kind == "async":
            asyncio.run(ask(key))
            continue
        with RewardClient("http://rm", api_key=key, transport=httpx2.MockTransport(handler)) as one:
            one.rewards(ITEMS)
    assert sent == ["Bearer of-environment", "Bearer given", None]


def test_a_deadline_over_the_servers_limit_is_sent_as_the_limit() -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        assert request.headers["X-Request-Timeout"] == "86400"
        return right(request)

    with RewardClient(
        "http://rm", timeout_s=90_000, transport=httpx2.MockTransport(handler)
    ) as client:
        client.rewards(ITEMS)


@pytest.mark.parametrize(
    "items",
    [
        [],
        [{"responses": ["x"]}],
        [{"prompt": "a", "messages": [{"role": "user", "content": "b"}], "responses": ["x"]}],
        [{"prompt": "a", "templated": True, "responses": []}],
        [{"prompt": "a", "templated": True, "responses": ["x"], "typo": 1}],
        [{"prompt": "a", "templated": True, "responses": ["\ud800"]}],
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(items: list[Any]) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        raise AssertionError("something was sent")

    with pytest.raises(ValueError):  # noqa: PT011  the message is pydantic's
        ask(handler, items=items)


def spoil(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(reply: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        node: Any = reply
        for name in parents:
            node = node[int(name)] if name.isdecimal() else node[name]
        if value is DELETE:
            del node[int(last) if last.isdecimal() else last]
        else:
            node[last] = value

    return change


DELETE = object()
SPOILED = {
    "a result is missing": spoil("results.1", DELETE),
    "a response is missing": spoil("results.0.responses.1", DELETE),
    "results in another order": spoil("results.0.index", 1),
    "the reward is null": spoil("results.0.responses.0.reward", None),
    "the reward is NaN": spoil("results.0.responses.0.reward", float("nan")),
    "R is infinite": spoil("results.0.responses.0.base_reward", float("inf")),
    "a probe score is NaN": spoil("results.1.responses.0.probes.sycophancy.score", float("nan")),
    "a bounded score is NaN": spoil(
        "results.1.responses.0.probes.sycophancy.bounded", float("nan")
    ),
    "the sum is off": spoil("results.1.responses.0.penalty", 1e-9),
    "best is not the best": spoil("results.1.best", 1),
    "no model": spoil("model", DELETE),
    "a number is a word": spoil("results.0.responses.0.reward", "high"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_reply_that_cannot_be_right_is_refused_and_not_asked_for_again(name: str) -> None:
    tries = 0

    def handler(request: httpx2.Request) -> httpx2.Response:
        nonlocal tries
        tries += 1
        reply = reward_reply(request.content)
        SPOILED[name](reply)
        return as_response(200, reply)

    with pytest.raises(InvalidReply):
        ask(handler)
    assert tries == 1


def test_the_unspoiled_reply_and_one_of_a_newer_server_are_believed() -> None:
    request = reward_request(ITEMS)
    reply = reward_reply(request.model_dump_json(by_alias=True).encode())
    parse_reply(request, json.dumps(reply).encode(), None)
    newer = copy.deepcopy(reply)
    newer["warnings"] = []
    newer["results"][0]["responses"][0]["probes"]["sycophancy"]["topk"] = 1.0
    assert parse_reply(request, json.dumps(newer).encode(), None) == parse_reply(
        request, json.dumps(reply).encode(), None
    )


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"results": []'])
def test_a_success_that_is_not_our_json_is_an_invalid_reply(content: bytes) -> None:
    with pytest.raises(InvalidReply):
        ask(lambda request: httpx2.Response(200, content=content))


@pytest.mark.parametrize("use_async", [False, True])
def test_other_weights_than_in_the_first_reply_stop_the_client(use_async: bool) -> None:
    revisions = iter(["a" * 64, "a" * 64, "b" * 64])

    def handler(request: httpx2.Request) -> httpx2.Response:
        return as_response(200, reward_reply(request.content, next(revisions)))

    with pytest.raises(ModelChanged, match=r"bbbbbbbbbbbb.*aaaaaaaaaaaa"):
        ask(handler, use_async=use_async, times=3)


def test_the_same_weights_in_every_reply_do_not() -> None:
    ask(right, times=3)


def test_a_busy_server_is_asked_again_and_a_refusal_is_not() -> None:
    answers = iter([503, 200])

    def busy(request: httpx2.Request) -> httpx2.Response:
        if next(answers) == 503:
            return as_response(503, envelope("overloaded", "full", retryable=True))
        return right(request)

    assert len(ask(busy).results) == 2

    def refusing(request: httpx2.Request) -> httpx2.Response:
        return as_response(422, envelope("empty_response", "no text", retryable=False, item=1))

    with pytest.raises(PermanentError) as caught:
        ask(refusing)
    assert (caught.value.type, caught.value.item) == ("empty_response", 1)


def test_the_key_is_in_no_text_of_the_client_or_its_errors() -> None:
    client = RewardClient(
        "http://rm",
        api_key="s3cret",
        retry=Retry(budget_s=0),
        transport=httpx2.MockTransport(lambda request: as_response(401, "no")),
    )
    with client, pytest.raises(PermanentError) as caught:
        client.rewards(ITEMS)
    for text in (repr(client), str(client), str(caught.value), repr(caught.value)):
        assert "s3cret" not in text


@pytest.mark.parametrize("use_async", [False, True])
def test_models_and_probes_are_json_objects(use_async: bool) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        return as_response(200, {"data": []} if request.url.path == "/v1/models" else [])

    async def run() -> None:
        async with AsyncRewardClient(
            "http://rm", transport=httpx2.MockTransport(handler)
        ) as client:
            assert await client.models() == {"data": []}
            with pytest.raises(InvalidReply, match="/v1/probes"):
                await client.probes()

    if use_async:
        asyncio.run(run())
        return
    with RewardClient("http://rm", transport=httpx2.MockTransport(handler)) as client:
        assert client.models() == {"data": []}
        with pytest.raises(InvalidReply, match="/v1/probes"):
            client.probes()


def wait(handler: Handler, timeout_s: float, *, use_async: bool) -> None:
    transport = httpx2.MockTransport(handler)

    async def run() -> None:
        async with AsyncRewardClient("http://rm", transport=transport) as client:
            await client.wait_ready(timeout_s)

    if use_async:
        asyncio.run(run())
        return
    with RewardClient("http://rm", transport=transport) as client:
        client.wait_ready(timeout_s)


@pytest.mark.parametrize("use_async", [False, True])
def test_wait_ready_returns_once_a_loading_server_is_ready(use_async: bool) -> None:
    asked: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        if len(asked) == 1:
            raise httpx2.ConnectError("refused")
        if len(asked) == 2:
            return as_response(503, {"status": "loading", "reason": "the model is loading"})
        return as_response(200, {"status": "ready", "reason": None})

    wait(handler, 60, use_async=use_async)
    assert asked == ["/readyz"] * 3


@pytest.mark.parametrize("use_async", [False, True])
def test_wait_ready_says_which_url_what_phase_and_how_long(use_async: bool) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        return as_response(503, {"status": "loading", "reason": "the model is loading"})

    with pytest.raises(NotReadyInTime) as caught:
        wait(handler, 0.3, use_async=use_async)
    assert "http://rm/readyz is not ready after 0." in str(caught.value)
    assert "loading, the model is loading" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, envelope("not_found", "no such route", retryable=False)),
        (503, {"status": "failed", "reason": "the model could not be loaded; see the log"}),
    ],
)
def test_wait_ready_does_not_wait_for_what_will_not_come(status: int, body: dict[str, Any]) -> None:
    asked = 0

    def handler(request: httpx2.Request) -> httpx2.Response:
        nonlocal asked
        asked += 1
        return as_response(status, body)

    with pytest.raises(NotReadyInTime, match="will not become ready"):
        wait(handler, 60, use_async=False)
    assert asked == 1


def test_wait_ready_names_a_port_where_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        RewardClient(f"http://127.0.0.1:{port}") as client,
        pytest.raises(NotReadyInTime, match=rf"127\.0\.0\.1:{port}.*no connection, ConnectError"),
    ):
        client.wait_ready(0.3)
