"""When to send a request again, and the two loops (sync and async) that send it.

A request is repeated where there is no answer (refused, reset, timed out), after the statuses 408,
425, 502, 503 and 504, and after every error that the server calls retryable. Every other 4xx is
final, and so is a 500. The wait before the next try is random, uniform between 0 and a bound that
doubles from 0.5 s to 10 s, plus the seconds of an integer `Retry-After` (at most 120 s), so that
clients that were refused together do not come back together.

No new try begins after `budget_s`, so a call lasts at most the budget and one timeout. Scoring is a
pure function and generation is seeded, so repeating either is safe.

Not here: circuit breakers, hedging, HTTP dates in `Retry-After` (a wall clock steps).
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from typing import Any

import httpx2

from candor.client.errors import (
    ClientError,
    PermanentError,
    RetryableError,
    RewardError,
    Unreachable,
)

RETRYABLE_STATUSES = frozenset({408, 425, 502, 503, 504})
MAX_RETRY_AFTER_S = 120
CONNECT_TIMEOUT_S = 5.0
NO_ANSWER = (
    httpx2.TimeoutException,
    httpx2.NetworkError,
    httpx2.ProxyError,
    httpx2.RemoteProtocolError,
)
"""The request may or may not have arrived; asking again can help."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How long a client repeats failed requests, in seconds. `budget_s=0` sends each request once.

    Attributes:
        budget_s: time after which no new try begins.
        first_s, cap_s: first and largest bound of the random wait.
    """

    budget_s: float = 300.0
    first_s: float = 0.5
    cap_s: float = 10.0

    def bound_s(self, num_tries: int) -> float:
        """The largest random wait after `num_tries` (from 1) failed tries."""
        return min(self.cap_s, self.first_s * 2.0 ** min(num_tries - 1, 30))


@dataclass(slots=True)
class Tries:
    """The tries of one call. Decides after each failure whether to try again, and when."""

    retry: Retry
    rng: random.Random = field(default_factory=random.Random)
    num_tries: int = 0
    began: float = field(default_factory=time.monotonic)

    def wait_s(self, failure: ClientError) -> float:
        """Seconds to wait before the next try.

        Raises:
            ClientError: `failure` itself, when it is final or no time is left for another try.
        """
        self.num_tries += 1
        if not failure.retryable:
            raise failure
        wait = self.rng.uniform(0.0, self.retry.bound_s(self.num_tries))
        if isinstance(failure, RewardError) and failure.retry_after_s is not None:
            wait += min(max(failure.retry_after_s, 0), MAX_RETRY_AFTER_S)
        elapsed = time.monotonic() - self.began
        if elapsed + wait > self.retry.budget_s:
            tries = "1 try" if self.num_tries == 1 else f"{self.num_tries} tries"
            failure.message += f"; gave up after {tries} in {elapsed:.1f} s"
            raise failure
        return wait


def timeout(timeout_s: float) -> httpx2.Timeout:
    """At most 5 s to connect and `timeout_s` between bytes; no limit on waiting for a free
    connection in the pool."""
    return httpx2.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s), pool=None)


def http_url(url: str) -> str:
    """`url` without a trailing slash.

    Raises:
        ValueError: it does not begin with http:// or https://.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} is not a URL: it must begin with http:// or https://")
    return url.rstrip("/")


def send(client: httpx2.Client, request: httpx2.Request, retry: Retry) -> httpx2.Response:
    """Send `request` until it succeeds; returns the response with its body read.

    Raises:
        Unreachable, RewardError: the last failure.
    """
    tries = Tries(retry)
    while True:
        try:
            response = client.send(request)
        except NO_ANSWER as error:
            failure: ClientError = unreachable(request, error)
        else:
            if response.is_success:
                return response
            failure = error_of(response)
        time.sleep(tries.wait_s(failure))


async def send_async(
    client: httpx2.AsyncClient, request: httpx2.Request, retry: Retry
) -> httpx2.Response:
    """`send`, without blocking the event loop."""
    tries = Tries(retry)
    while True:
        try:
            response = await client.send(request)
        except NO_ANSWER as error:
            failure: ClientError = unreachable(request, error)
        else:
            if response.is_success:
                return response
            failure = error_of(response)
        await asyncio.sleep(tries.wait_s(failure))


def unreachable(request: httpx2.Request, error: httpx2.TransportError) -> Unreachable:
    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    return Unreachable(f"no answer from {request.method} {request.url} ({reason})")


def error_of(response: httpx2.Response) -> RewardError:
    """The error that an unsuccessful response stands for.

    Unknown fields are ignored, because a newer server may say more; a body in another form, as of a
    proxy in between, becomes the message.
    """
    error = error_body(response)
    retryable = error.get("retryable")
    if not isinstance(retryable, bool):
        retryable = response.status_code in RETRYABLE_STATUSES
    kind = RetryableError if retryable else PermanentError
    request_id = _text(error, "request_id") or response.headers.get("X-Request-ID")
    retry_after = response.headers.get("Retry-After", "")
    return kind(
        _text(error, "type") or f"http_{response.status_code}",
        response.status_code,
        _text(error, "message") or response.text[:500] or response.reason_phrase,
        item=_index(error, "item"),
        response=_index(error, "response"),
        request_id=request_id,
        retry_after_s=int(retry_after) if retry_after.isdecimal() else None,
    )


def error_body(response: httpx2.Response) -> dict[str, Any]:
    """The `error` object of the body, or the body itself where it has none; empty where the body is
    not a JSON object."""
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    error = body.get("error", body) if isinstance(body, dict) else {}
    return error if isinstance(error, dict) else {}


def _text(error: dict[str, Any], name: str) -> str | None:
    value = error.get(name)
    return value[:500] if isinstance(value, str) else None


def _index(error: dict[str, Any], name: str) -> int | None:
    value = error.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
