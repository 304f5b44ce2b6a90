"""Rewards from a Candor server: `RewardClient` for scripts, `AsyncRewardClient` for concurrent
code.

    with RewardClient("http://127.0.0.1:8000") as client:
        question = {"messages": [{"role": "user", "content": "2+2="}]}
        reply = client.rewards([{**question, "responses": ["4", "5, as you say!"]}])
        print(reply.rewards)        # [[0.9, -0.4]]: one list per item
        table = reply.to_pandas()   # one row per response: text, reward, R, S, ranks

`RewardClient` needs no event loop and no `await`, so the same lines work in a notebook, where a
reply shows itself as a table.

The two classes are thin. `candor.client.wire` makes requests and checks replies,
`candor.client.retry` repeats failed requests, and `candor.client.errors` names the failures.

Not here: batching or splitting (the server forms batches; one request takes 16,384 items) and
caching.
"""

from __future__ import annotations

import asyncio
import os
import time
from types import TracebackType
from typing import Any, Self

import httpx2

from candor.client.errors import PermanentError
from candor.client.readiness import ReadinessWait, check_readiness, json_object, served_model
from candor.client.retry import (
    NO_ANSWER,
    Retry,
    Waiting,
    http_url,
    send,
    send_async,
    shown,
    timeout,
)
from candor.client.schema import ModelInfo, RewardResponse
from candor.client.wire import (
    EmptyResponse,
    Include,
    Items,
    Penalties,
    Truncation,
    parse_reply,
    request_bytes,
    reward_request,
)

MAX_REQUEST_TIMEOUT_S = 86_400.0
"""The longest deadline the server takes in `X-Request-Timeout`."""
API_KEY_VARIABLE = "CANDOR_API_KEY"
JSON = {"Content-Type": "application/json"}
READY_TRY_TIMEOUT_S = 1.5
"""Short, so that an address where nobody answers is named within two seconds."""


def _headers(api_key: str | None, timeout_s: float) -> dict[str, str]:
    if api_key is None:
        api_key = os.environ.get(API_KEY_VARIABLE)
    headers = {"X-Request-Timeout": f"{min(timeout_s, MAX_REQUEST_TIMEOUT_S):g}"}
    if api_key := (api_key or "").strip():
        if not (api_key.isascii() and api_key.isprintable()):
            raise ValueError("the API key has a character that is not printable ASCII")
        headers["Authorization"] = f"Bearer {api_key}"
    return headers


class AsyncRewardClient:
    """Client of one server, for many calls at the same time. Use it as an async context manager, or
    call `close`.

    Args:
        base_url: address of the server, without `/v1`.
        api_key: key to send as `Authorization: Bearer`; never logged or shown. None is the
            environment variable CANDOR_API_KEY, where it is set; an empty text sends no key.
        timeout_s: longest wait for a reply, in seconds. Also sent as `X-Request-Timeout` (at most
            86,400), so that the server does not score for a caller that no longer waits.
        retry: how often and how long failed requests are repeated; see `candor.client.retry`.
        transport: httpx2 transport in place of the network, for tests.

    Raises:
        ValueError: `base_url` is not the address of a server, or the key cannot be sent.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        retry: Retry | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._retry = retry or Retry()
        self._waiting = Waiting()
        self._model: ModelInfo | None = None
        self._http = httpx2.AsyncClient(
            base_url=http_url(base_url),
            headers=_headers(api_key, timeout_s),
            timeout=timeout(timeout_s),
            transport=transport,
        )

    async def rewards(
        self,
        items: Items,
        penalties: Penalties | None = None,
        include: Include = (),
        truncation: Truncation = "error",
        empty_response: EmptyResponse = "error",
    ) -> RewardResponse:
        """Score every response of every item (`POST /v1/rewards`, docs/api.md).

        Args:
            items: contexts with their responses, as `RewardItem` or in its JSON form.
            penalties: strengths by probe name in place of the served ones, such as
                {"sycophancy": {"lambda": 0.5}}; lambda is in reward units per logit.
            include: `tokens` adds each probe's logit of each response token, `text` the templated
                text that the model read.
            truncation: what to do with text over the reward model's window: `error` refuses the
                request, `left` drops the oldest context.
            empty_response: what to do with a response without a token: `error` refuses the request,
                `score` scores the empty turn.

        Returns:
            One result per item and one reward per response, both in the order of the request.

        Raises:
            InvalidArguments: the arguments are wrong (a `ValueError`); nothing was sent.
            ClientError: every other failure, by name (client/candor/client/errors.py).
        """
        request = reward_request(items, penalties, include, truncation, empty_response)
        response = await self._send("POST", "/v1/rewards", request_bytes(request))
        reply = parse_reply(request, response.content, self._model)
        self._model = reply.model
        return reply

    async def models(self) -> dict[str, Any]:
        """The served reward model (`GET /v1/models`)."""
        return json_object(await self._send("GET", "/v1/models"))

    async def probes(self) -> dict[str, Any]:
        """The served probes with their strengths and cards (`GET /v1/probes`)."""
        return json_object(await self._send("GET", "/v1/probes"))

    async def identify(self) -> ModelInfo:
        """Ask `/readyz`, until the server is ready or the retry budget is spent, and `/v1/models`.

        Raises:
            ClientError: the server did not become ready, refuses the key, or is not Candor.
        """
        try:
            ready = await self._send("GET", "/readyz")
            check_readiness(ready)
            return served_model(await self._send("GET", "/v1/models"))
        except PermanentError as error:
            if error.status in (404, 405):
                error.message += f" (is {shown(self._http.base_url)} a Candor server?)"
            raise

    async def wait_ready(self, timeout_s: float) -> None:
        """Ask `/readyz` again and again until the server is ready, for at most `timeout_s` seconds.

        Raises:
            NotReadyInTime: the message has the URL, the last answer and the time that has passed.
            InvalidReply: another service answers there.
        """
        request = self._http.build_request("GET", "/readyz", timeout=timeout(READY_TRY_TIMEOUT_S))
        seen = ReadinessWait(request, timeout_s, self._waiting)
        while True:
            try:
                answer: httpx2.Response | httpx2.TransportError = await self._http.send(request)
            except NO_ANSWER as error:
                answer = error
            if (wait := seen.wait_s(answer)) is None:
                return
            await asyncio.sleep(wait)

    async def _send(self, method: str, path: str, body: bytes | None = None) -> httpx2.Response:
        request = self._http.build_request(
            method, path, content=body, headers=JSON if body else None
        )
        return await send_async(self._http, request, self._retry, self._waiting)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()


class RewardClient:
    """Client of one server for scripts and notebooks: no event loop and no `await`. Use it as a
    context manager, or call `close`. Several threads may share it.

    Args:
        base_url: address of the server, without `/v1`.
        api_key: key to send as `Authorization: Bearer`; never logged or shown.
        timeout_s: longest wait for a reply, in seconds.
        retry: how often and how long failed requests are repeated; see `candor.client.retry`.
        transport: httpx2 transport in place of the network, for tests.

    Raises:
        ValueError: `base_url` is not the address of a server, or the key cannot be sent.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        retry: Retry | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._retry = retry or Retry()
        self._waiting = Waiting()
        self._model: ModelInfo | None = None
        self._http = httpx2.Client(
            base_url=http_url(base_url),
            headers=_headers(api_key, timeout_s),
            timeout=timeout(timeout_s),
            transport=transport,
        )

    def rewards(
        self,
        items: Items,
        penalties: Penalties | None = None,
        include: Include = (),
        truncation: Truncation = "error",
        empty_response: EmptyResponse = "error",
    ) -> RewardResponse:
        """Score every response of every item (`POST /v1/rewards`, docs/api.md).

            reply = client.rewards([{"messages": messages, "responses": ["4", "5, as you say!"]}])
            reply.rewards        # [[0.9, -0.4]]
            reply.to_pandas()    # a table; in a notebook the reply shows itself as one

        Args:
            items: contexts with their responses, as `RewardItem` or in its JSON form.
            penalties: strengths by probe name in place of the served ones, such as
                {"sycophancy": {"kappa": 1.0}} or, in reward units per logit, {"lambda": 0.5}.
            include: `["tokens"]` adds each probe's logit of each response token.
            truncation: what to do with text over the reward model's window: `error` refuses the
                request, `left` drops the oldest context.
            empty_response: what to do with a response without a token: `error` refuses the request,
                `score` scores the empty turn.

        Returns:
            One result per item and one reward per response, both in the order of the request.

        Raises:
            InvalidArguments: the arguments are wrong (a `ValueError`); nothing was sent.
            ClientError: every other failure, by name (client/candor/client/errors.py).
        """
        request = reward_request(items, penalties, include, truncation, empty_response)
        response = self._send("POST", "/v1/rewards", request_bytes(request))
        reply = parse_reply(request, response.content, self._model)
        self._model = reply.model
        return reply

    def models(self) -> dict[str, Any]:
        """The served reward model (`GET /v1/models`)."""
        return json_object(self._send("GET", "/v1/models"))

    def probes(self) -> dict[str, Any]:
        """The served probes with their strengths and cards (`GET /v1/probes`)."""
        return json_object(self._send("GET", "/v1/probes"))

    def wait_ready(self, timeout_s: float) -> None:
        """Ask `/readyz` again and again until the server is ready, for at most `timeout_s` seconds.

        Raises:
            NotReadyInTime: the message has the URL, the last answer and the time that has passed.
            InvalidReply: another service answers there.
        """
        request = self._http.build_request("GET", "/readyz", timeout=timeout(READY_TRY_TIMEOUT_S))
        seen = ReadinessWait(request, timeout_s, self._waiting)
        while True:
            try:
                answer: httpx2.Response | httpx2.TransportError = self._http.send(request)
            except NO_ANSWER as error:
                answer = error
            if (wait := seen.wait_s(answer)) is None:
                return
            time.sleep(wait)

    def _send(self, method: str, path: str, body: bytes | None = None) -> httpx2.Response:
        request = self._http.build_request(
            method, path, content=body, headers=JSON if body else None
        )
        return send(self._http, request, self._retry, self._waiting)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()
