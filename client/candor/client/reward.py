"""Rewards from a Candor server: `RewardClient` for scripts, `AsyncRewardClient` for concurrent
code.

    with RewardClient("http://127.0.0.1:8000") as client:
        question = {"messages": [{"role": "user", "content": "2+2="}]}
        reply = client.rewards([{**question, "responses": ["4", "5, as you say!"]}])
        print(reply.results[0].responses[0].reward)

The two classes are thin. `candor.client.wire` makes requests and checks replies,
`candor.client.retry` repeats failed requests, and `candor.client.errors` names the failures.

Not here: batching or splitting (the server forms batches; one request takes 16,384 items) and
caching.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self

import httpx2

from candor.client.errors import InvalidReply, NotReadyInTime
from candor.client.retry import (
    NO_ANSWER,
    Retry,
    error_body,
    error_of,
    http_url,
    send,
    send_async,
    timeout,
)
from candor.client.schema import ModelInfo, RewardResponse
from candor.client.wire import (
    Include,
    Items,
    Penalties,
    Truncation,
    parse_reply,
    request_bytes,
    reward_request,
)

MAX_REQUEST_TIMEOUT_S = 600.0
"""The longest deadline the server takes in `X-Request-Timeout`."""
JSON = {"Content-Type": "application/json"}
READY_POLL_S = 0.25
READY_TRY_TIMEOUT_S = 5.0


def _headers(api_key: str | None, timeout_s: float) -> dict[str, str]:
    headers = {"X-Request-Timeout": f"{min(timeout_s, MAX_REQUEST_TIMEOUT_S):g}"}
    if api_key is not None:
        headers["Authorization"] = f"Bearer {api_key}"
    return headers


def _json_object(response: httpx2.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise InvalidReply(f"{response.url} did not answer with a JSON object")
    return body


class _Readiness:
    """The answers that `wait_ready` has seen so far."""

    def __init__(self, url: httpx2.URL, timeout_s: float) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self.began = time.monotonic()
        self.last_answer = "not asked yet"

    def is_ready(self, answer: httpx2.Response | httpx2.TransportError) -> bool:
        """Whether the server is ready, by its newest answer.

        Raises:
            NotReadyInTime: time is up, or the answer (404, `failed`) will not change.
        """
        if isinstance(answer, httpx2.TransportError):
            self.last_answer = f"no connection, {type(answer).__name__}"
        elif answer.is_success:
            return True
        else:
            body = error_body(answer)
            self.last_answer = f"{body.get('status')}, {body.get('reason')}"
            if "status" not in body:
                self.last_answer = str(error_of(answer))
            if answer.status_code < 500 or body.get("status") == "failed":
                raise self.error("will not become ready")
        if time.monotonic() - self.began + READY_POLL_S > self.timeout_s:
            raise self.error("is not ready")
        return False

    def error(self, verdict: str) -> NotReadyInTime:
        elapsed = time.monotonic() - self.began
        return NotReadyInTime(f"{self.url} {verdict} after {elapsed:.1f} s: {self.last_answer}")


class AsyncRewardClient:
    """Client of one server, for many calls at the same time. Use it as an async context manager, or
    call `close`.

    Args:
        base_url: address of the server, without `/v1`.
        api_key: key to send as `Authorization: Bearer`; never logged or shown.
        timeout_s: longest wait for a reply, in seconds. Also sent as `X-Request-Timeout` (at most
            600), so that the server does not score for a caller that no longer waits.
        retry: how often and how long failed requests are repeated; see `candor.client.retry`.
        transport: httpx2 transport in place of the network, for tests.

    Raises:
        ValueError: `base_url` does not begin with http:// or https://.
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
    ) -> RewardResponse:
        """Score every response of every item (`POST /v1/rewards`, docs/api.md).

        Args:
            items: contexts with their responses, as `RewardItem` or in its JSON form.
            penalties: strengths by probe name in place of the served ones, such as
                {"sycophancy": {"lambda": 0.5}}; lambda is in reward units per logit.
            include: `["tokens"]` adds each probe's logit of each response token.
            truncation: what to do with text over the reward model's window: `error` refuses the
                request, `left` drops the oldest context.

        Returns:
            One result per item and one reward per response, both in the order of the request.

        Raises:
            ValueError: the arguments are wrong; nothing was sent.
            ClientError: every other failure, by name (client/candor/client/errors.py).
        """
        request = reward_request(items, penalties, include, truncation)
        response = await self._send("POST", "/v1/rewards", request_bytes(request))
        reply = parse_reply(request, response.content, self._model)
        self._model = reply.model
        return reply

    async def models(self) -> dict[str, Any]:
        """The served reward model (`GET /v1/models`)."""
        return _json_object(await self._send("GET", "/v1/models"))

    async def probes(self) -> dict[str, Any]:
        """The served probes with their strengths and cards (`GET /v1/probes`)."""
        return _json_object(await self._send("GET", "/v1/probes"))

    async def wait_ready(self, timeout_s: float) -> None:
        """Ask `/readyz` again and again until the server is ready, for at most `timeout_s` seconds.

        Raises:
            NotReadyInTime: the message has the URL, the last answer and the time that has passed.
        """
        request = self._http.build_request("GET", "/readyz", timeout=timeout(READY_TRY_TIMEOUT_S))
        seen = _Readiness(request.url, timeout_s)
        while True:
            try:
                answer: httpx2.Response | httpx2.TransportError = await self._http.send(request)
            except NO_ANSWER as error:
                answer = error
            if seen.is_ready(answer):
                return
            await asyncio.sleep(READY_POLL_S)

    async def _send(self, method: str, path: str, body: bytes | None = None) -> httpx2.Response:
        request = self._http.build_request(
            method, path, content=body, headers=JSON if body else None
        )
        return await send_async(self._http, request, self._retry)

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
    """`AsyncRewardClient` for code without an event loop: the same arguments and failures."""

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
    ) -> RewardResponse:
        """See `AsyncRewardClient.rewards`."""
        request = reward_request(items, penalties, include, truncation)
        response = self._send("POST", "/v1/rewards", request_bytes(request))
        reply = parse_reply(request, response.content, self._model)
        self._model = reply.model
        return reply

    def models(self) -> dict[str, Any]:
        """The served reward model (`GET /v1/models`)."""
        return _json_object(self._send("GET", "/v1/models"))

    def probes(self) -> dict[str, Any]:
        """The served probes with their strengths and cards (`GET /v1/probes`)."""
        return _json_object(self._send("GET", "/v1/probes"))

    def wait_ready(self, timeout_s: float) -> None:
        """See `AsyncRewardClient.wait_ready`."""
        request = self._http.build_request("GET", "/readyz", timeout=timeout(READY_TRY_TIMEOUT_S))
        seen = _Readiness(request.url, timeout_s)
        while True:
            try:
                answer: httpx2.Response | httpx2.TransportError = self._http.send(request)
            except NO_ANSWER as error:
                answer = error
            if seen.is_ready(answer):
                return
            time.sleep(READY_POLL_S)

    def _send(self, method: str, path: str, body: bytes | None = None) -> httpx2.Response:
        request = self._http.build_request(
            method, path, content=body, headers=JSON if body else None
        )
        return send(self._http, request, self._retry)

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
