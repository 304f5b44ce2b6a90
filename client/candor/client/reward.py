"""Rewards from a Candor server: `RewardClient` for scripts, `AsyncRewardClient` for everything
concurrent.

    with RewardClient("http://127.0.0.1:8000") as client:
        reply = client.rewards([{"prompt": "2+2=", "responses": ["4", "5, as you say!"]}])
        print(reply.results[0].responses[0].reward)

Two thin shells over `httpx2`; requests are made and replies checked in `candor.client.wire`,
retries are in `candor.client.retry` and failures in `candor.client.errors`.

Not here: batching or splitting (the server forms batches; 16,384 items go in one request) and
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
    """What `wait_ready` has seen so far, and how it says so."""

    def __init__(self, url: httpx2.URL, timeout_s: float) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self.began = time.monotonic()
        self.phase = "not asked yet"

    def saw(self, answer: httpx2.Response | httpx2.TransportError) -> bool:
        """Whether the server is ready now.

        Raises:
            NotReadyInTime: time is up, or the answer (404, `failed`) will not change by waiting.
        """
        if isinstance(answer, httpx2.TransportError):
            self.phase = f"no connection, {type(answer).__name__}"
        elif answer.is_success:
            return True
        else:
            told = error_body(answer)
            self.phase = f"{told.get('status')}, {told.get('reason')}"
            if "status" not in told:
                self.phase = str(error_of(answer))
            if answer.status_code < 500 or told.get("status") == "failed":
                raise self.error("will not become ready")
        if time.monotonic() - self.began + READY_POLL_S > self.timeout_s:
            raise self.error("is not ready")
        return False

    def error(self, verdict: str) -> NotReadyInTime:
        elapsed = time.monotonic() - self.began
        return NotReadyInTime(f"{self.url} {verdict} after {elapsed:.1f} s: {self.phase}")


class AsyncRewardClient:
    """One server, many concurrent calls. Use as an async context manager or call `close`.

    Args:
        base_url: where the server is, without `/v1`.
        api_key: sent as `Authorization: Bearer`; never logged or shown.
        timeout_s: longest wait for a reply, also sent as `X-Request-Timeout` (at most 600), so
            that the server does not score for a caller who has left.
        retry: patience; see `candor.client.retry`.
        transport: an httpx2 transport in place of the network, for tests.
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
        """Score every response of every item, in order (`POST /v1/rewards`, docs/api.md).

        Raises:
            ValueError: the arguments; nothing was sent.
            ClientError: every other failure, by name (client/candor/client/errors.py).
        """
        request = reward_request(items, penalties, include, truncation)
        response = await self._send("POST", "/v1/rewards", request_bytes(request))
        reply = parse_reply(request, response.content, self._model)
        self._model = reply.model
        return reply

    async def models(self) -> dict[str, Any]:
        """`GET /v1/models`."""
        return _json_object(await self._send("GET", "/v1/models"))

    async def probes(self) -> dict[str, Any]:
        """`GET /v1/probes`: the cards of the probes served."""
        return _json_object(await self._send("GET", "/v1/probes"))

    async def wait_ready(self, timeout_s: float) -> None:
        """Poll `/readyz` until it says yes.

        Raises:
            NotReadyInTime: says which URL, in what phase it was and how long it was waited for.
        """
        request = self._http.build_request("GET", "/readyz", timeout=timeout(READY_TRY_TIMEOUT_S))
        seen = _Readiness(request.url, timeout_s)
        while True:
            try:
                answer: httpx2.Response | httpx2.TransportError = await self._http.send(request)
            except NO_ANSWER as error:
                answer = error
            if seen.saw(answer):
                return
            await asyncio.sleep(READY_POLL_S)

    async def _send(self, method: str, path: str, body: bytes | None = None) -> httpx2.Response:
        request = self._http.build_request(
            method, path, content=body, headers=JSON if body else None
        )
        return await send_async(self._http, request, self._retry)

    async def close(self) -> None:
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
    """`AsyncRewardClient` for code without an event loop; same arguments, same failures."""

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
        """`GET /v1/models`."""
        return _json_object(self._send("GET", "/v1/models"))

    def probes(self) -> dict[str, Any]:
        """`GET /v1/probes`: the cards of the probes served."""
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
            if seen.saw(answer):
                return
            time.sleep(READY_POLL_S)

    def _send(self, method: str, path: str, body: bytes | None = None) -> httpx2.Response:
        request = self._http.build_request(
            method, path, content=body, headers=JSON if body else None
        )
        return send(self._http, request, self._retry)

    def close(self) -> None:
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
