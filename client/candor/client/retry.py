"""When to send a request again, and the two loops (sync and async) that send it.

A request is repeated where there is no answer (refused, reset, timed out), after the statuses 408,
425, 502, 503 and 504, and after every error that the server calls retryable. Every other 4xx is
final, and so is a 500. The wait before the next try is random, uniform between 0 and a bound that
doubles from 0.5 s to 10 s, plus the seconds of an integer `Retry-After` (at most 120 s), so that
clients that were refused together do not come back together.

The budget runs from the first failure of a call. The wait before the last try is cut so that this
try begins when the budget ends, so a server that is back by then is found. A call lasts at most its
first try, the budget and one timeout more. Scoring is a pure function and generation is seeded, so
repeating either is safe.

A client that waits says so: one line in the log `candor.client` at the first failure, one whenever
it has waited twice as long as at the line before, and one when the server answers again.

Not here: circuit breakers, hedging, HTTP dates in `Retry-After` (a wall clock steps).
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2

from candor.client.errors import (
    ClientError,
    InvalidReply,
    PermanentError,
    RetryableError,
    RewardError,
    Unreachable,
)

RETRYABLE_STATUSES = frozenset({408, 425, 502, 503, 504})
MAX_RETRY_AFTER_S = 120
CONNECT_TIMEOUT_S = 5.0
FIRST_CONNECT_TIMEOUT_S = 1.5
"""The first try of a call that may be repeated: an address where nobody answers is named within two
seconds."""
FIRST_SAY_AGAIN_S = 1.0
"""Waited seconds at the second line. The next lines come at 2, 4, 8, ... seconds."""
log = logging.getLogger("candor.client")

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
        budget_s: time from the first failure after which no new try begins.
        first_s, cap_s: first and largest bound of the random wait.
    """

    budget_s: float = 300.0
    first_s: float = 0.5
    cap_s: float = 10.0

    def bound_s(self, num_tries: int) -> float:
        """The largest random wait after `num_tries` (from 1) failed tries."""
        return min(self.cap_s, self.first_s * 2.0 ** min(num_tries - 1, 30))


class Waiting:
    """What a client has said about waiting for its server; one for all calls of a client."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._next_s = 0.0

    def say(self, failure: ClientError, left_s: float) -> None:
        """Say that a request failed and is tried again: at the first failure, and whenever the wait
        has doubled."""
        now = time.monotonic()
        if self._since is None:
            self._since, self._next_s = now, FIRST_SAY_AGAIN_S
        elif now - self._since < self._next_s:
            return
        else:
            while self._next_s <= now - self._since:
                self._next_s *= 2
        check = (
            "Is the server running, and is this its address?"
            if isinstance(failure, Unreachable)
            else "The server is there but cannot answer now."
        )
        waited = now - self._since
        so_far = f" Waited {waited:.0f} s so far." if waited >= FIRST_SAY_AGAIN_S else ""
        log.warning("%s. %s%s Trying again for up to %.0f s", failure, check, so_far, left_s)

    def over(self, request: httpx2.Request) -> None:
        """Say that the server answers again, where its failure was said."""
        if self._since is not None:
            waited = time.monotonic() - self._since
            self._since = None
            log.warning(
                "%s answers again after %.1f s", shown(request.url.copy_with(path="/")), waited
            )


@dataclass(slots=True)
class Tries:
    """The tries of one call. Decides after each failure whether to try again, and when."""

    retry: Retry
    rng: random.Random = field(default_factory=random.Random)
    waiting: Waiting = field(default_factory=Waiting)
    num_tries: int = 0
    began: float = field(default_factory=time.monotonic)
    failed_since: float | None = None
    connect_s: float | None = None

    def wait_s(self, failure: ClientError) -> float:
        """Seconds to wait before the next try.

        Raises:
            ClientError: `failure` itself, when it is final or the budget is spent.
        """
        self.num_tries += 1
        if not failure.retryable:
            raise failure
        now = time.monotonic()
        if self.failed_since is None:
            self.failed_since = now
        left = self.failed_since + self.retry.budget_s - now
        if left <= 0:
            tries = "1 try" if self.num_tries == 1 else f"{self.num_tries} tries"
            failure.message += f"; gave up after {tries} in {now - self.began:.1f} s"
            raise failure
        self.waiting.say(failure, left)
        wait = self.rng.uniform(0.0, self.retry.bound_s(self.num_tries))
        if isinstance(failure, RewardError) and failure.retry_after_s is not None:
            wait += min(max(failure.retry_after_s, 0), MAX_RETRY_AFTER_S)
        return min(wait, left)

    def prepared(self, request: httpx2.Request) -> httpx2.Request:
        """The request, with the time that this try may take to connect."""
        limits = request.extensions.get("timeout") or {}
        if self.num_tries == 0:
            self.connect_s = limits.get("connect")
        if self.connect_s is not None:
            short = self.num_tries == 0 and self.retry.budget_s > 0
            connect = min(self.connect_s, FIRST_CONNECT_TIMEOUT_S) if short else self.connect_s
            request.extensions["timeout"] = {**limits, "connect": connect}
        return request


def timeout(timeout_s: float) -> httpx2.Timeout:
    """At most 5 s to connect and `timeout_s` between bytes; no limit on waiting for a free
    connection in the pool."""
    return httpx2.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s), pool=None)


def http_url(url: str) -> str:
    """`url` without white space around it, as secrets and files bring it, and without a trailing
    slash.

    Raises:
        ValueError: it is not the address of a server.
    """
    url = url.strip()
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} is not a URL: it must begin with http:// or https://")
    try:
        host, port = urlsplit(url).hostname, urlsplit(url).port
        httpx2.URL(url)
    except (ValueError, httpx2.InvalidURL) as error:
        raise ValueError(f"the URL is not valid: {error}") from None
    if not host or port == 0:
        raise ValueError(f"{url!r} is not a URL: it has no {'port' if host else 'host'}")
    return url.rstrip("/")


def shown(url: httpx2.URL | str) -> str:
    """The URL for messages: without a user name and a password, which may be the server's key."""
    return str(httpx2.URL(url).copy_with(userinfo=b""))


def send(
    client: httpx2.Client, request: httpx2.Request, retry: Retry, waiting: Waiting | None = None
) -> httpx2.Response:
    """Send `request` until it succeeds; returns the response with its body read.

    Args:
        waiting: the client's, so that its calls together say once that they wait.

    Raises:
        Unreachable, RewardError: the last failure.
    """
    tries = Tries(retry, waiting=waiting or Waiting())
    while True:
        try:
            response = client.send(tries.prepared(request))
        except NO_ANSWER as error:
            failure: ClientError = unreachable(request, error)
        except httpx2.HTTPError as error:
            raise unusable(request, error) from None
        else:
            if response.is_success:
                tries.waiting.over(request)
                return response
            failure = error_of(response)
        time.sleep(tries.wait_s(failure))


async def send_async(
    client: httpx2.AsyncClient,
    request: httpx2.Request,
    retry: Retry,
    waiting: Waiting | None = None,
) -> httpx2.Response:
    """`send`, without blocking the event loop."""
    tries = Tries(retry, waiting=waiting or Waiting())
    while True:
        try:
            response = await client.send(tries.prepared(request))
        except NO_ANSWER as error:
            failure: ClientError = unreachable(request, error)
        except httpx2.HTTPError as error:
            raise unusable(request, error) from None
        else:
            if response.is_success:
                tries.waiting.over(request)
                return response
            failure = error_of(response)
        await asyncio.sleep(tries.wait_s(failure))


def unreachable(request: httpx2.Request, error: httpx2.TransportError) -> Unreachable:
    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    return Unreachable(f"no answer from {request.method} {shown(request.url)} ({reason})")


def unusable(request: httpx2.Request, error: httpx2.HTTPError) -> InvalidReply:
    """An exchange that breaks HTTP: another try would break it again."""
    asked = f"{request.method} {shown(request.url)}"
    return InvalidReply(f"no usable answer from {asked} ({type(error).__name__}: {error})")


def error_of(response: httpx2.Response) -> RewardError:
    """The error that an unsuccessful response stands for.

    Unknown fields are ignored, because a newer server may say more; a body in another form, as of a
    proxy in between, becomes the message.
    """
    error = error_body(response)
    if isinstance(error.get("status"), str):  # of a health route: {"status", "reason"}
        said = f"{error['status']}: {error.get('reason')}"
        error = {"type": "not_ready", "message": said, "retryable": error["status"] != "failed"}
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
