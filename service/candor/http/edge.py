"""The edge: the checks that every HTTP request must pass before a route sees it, as one pure ASGI
layer.

In order: request id, size of the head, the key (or Host, where there is no key), draining, form of
a POST, and the body (its size and its time). Then the route runs, and the edge writes one access
line and the metrics. The edge also answers every error that a route raises, so that errors become
bytes in one place.

Access is denied by default: without the key only `KEYLESS_PATHS` and the inspector are answered.
The check uses the same path as the router, never a URL rebuilt from the Host header (the cause of
CVE-2026-48746). TLS, quotas and floods are left to a proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Collection

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from candor import logs
from candor.errors import (
    BodyTooLarge,
    CandorError,
    Draining,
    EngineFailed,
    InternalError,
    RequestTimeout,
    reason_of,
)
from candor.http import guards
from candor.http.guards import MIB, Limits
from candor.watch.health import Health
from candor.watch.metrics import Metrics

log = logs.get(__name__)

KEYLESS_PATHS = frozenset({"/livez", "/readyz", "/ready", "/health", "/startupz"})
"""Answered without a key, to any Host or none, and to HEAD and OPTIONS as to GET. They only say
whether to send work, and health checkers send little: HAProxy asks `OPTIONS / HTTP/1.0`."""
OPERATOR_PATHS = frozenset(
    {
        "/metrics",
        "/v1/drift",
        "/v1/drift/reference",
        "/v1/labels",
        "/v1/labels/rows",
        "/v1/probes/replace",
    }
)
"""Routes that show monitors, or that change what is served. If there is an operator key, they
accept that key only."""
POLLED_PATHS = KEYLESS_PATHS | {"/metrics"}
"""Answered while draining too, and not in the access log, which health checks and scrapers would
fill."""

CLIENT_LEFT_STATUS = 499
"""Status in log and metrics if the caller left before the answer. It is never sent."""


class ClientGone(Exception):
    """The caller closed the connection, so there is no answer to send."""


def root(error: BaseException) -> BaseException:
    """The error that another library raised, below the errors of ours that name its place."""
    while isinstance(error, CandorError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def error_answer(error: CandorError, request_id: str) -> tuple[bytes, dict[str, str]]:
    """The envelope of docs/api.md and the headers that go with it."""
    detail = {
        "type": error.type,
        "message": error.message[:1000],
        "item": error.item,
        "response": error.response,
        "retryable": error.retryable,
        "request_id": request_id,
    }
    headers = {"content-type": "application/json"}
    if error.status == 503:
        headers["retry-after"] = str(error.retry_after_s or 1)
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return orjson.dumps({"error": detail}), headers


class Edge:
    """ASGI middleware around the whole app.

    Args:
        routes: the paths that the app answers. Other paths are "other" in the metrics.
        operator_key: the key for `OPERATOR_PATHS`. With None, `api_key` opens them.
        pages: paths of pages that hold nothing of the server, and need no key.
        host_names: DNS names that a Host header may have, beside localhost and this machine's own
            name. Only routes without a key are checked.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        health: Health,
        metrics: Metrics,
        routes: Collection[str],
        api_key: str | None = None,
        operator_key: str | None = None,
        pages: Collection[str] = (),
        host_names: Collection[str] = (),
        request_timeout_s: float = 3600.0,
        limits: Limits | None = None,
    ) -> None:
        self.app = app
        self.health = health
        self.metrics = metrics
        self.routes = frozenset(routes)
        self.pages = frozenset(pages)
        self.host_names = frozenset(
            name.lower().removesuffix(".")
            for name in ("localhost", socket.gethostname(), *host_names)
        )
        self.request_timeout_s = request_timeout_s
        self.limits = limits or Limits()
        self._key = api_key.encode() if api_key is not None else None
        self._operator_key = operator_key.encode() if operator_key is not None else self._key

    def key_for(self, path: str) -> bytes | None:
        """The key that a request for `path` must send; None if it needs no key."""
        if path in KEYLESS_PATHS or path in self.pages:
            return None
        return self._operator_key if path in OPERATOR_PATHS else self._key

    def checks_host(self, path: str) -> bool:
        """Whether a request for `path` must have a known Host: where no key keeps strangers out."""
        if path in self.pages:
            return self._key is None
        return path not in KEYLESS_PATHS and self.key_for(path) is None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await _Exchange(self, scope, receive, send).run()


class _Exchange:
    """One request and its answer."""

    def __init__(self, edge: Edge, scope: Scope, receive: Receive, send: Send) -> None:
        self.edge = edge
        self.began = time.monotonic()
        self.path: str = scope["path"].rstrip("/") or "/"
        # The router sees this path too, so a trailing slash is answered, not redirected.
        self.scope = {**scope, "path": self.path, "state": dict(scope.get("state") or {})}
        self.method: str = scope["method"]
        if self.method == "HEAD" or (self.method == "OPTIONS" and self.path in KEYLESS_PATHS):
            self.scope["method"] = "GET"  # the protocol leaves the body of a HEAD out
        self.is_post = self.method == "POST"
        self.headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        self.route = self.path if self.path in edge.routes else "other"
        self.request_id = guards.request_id(self.headers)
        self.status: int | None = None
        self.num_bytes = 0
        self.body_complete = not self.is_post
        self._receive = receive
        self._send = send

    async def run(self) -> None:
        try:
            self._check_head()
            receive = self._replay(await self._read_body()) if self.is_post else self._receive
            await self.edge.app(self.scope, receive, self._answer)
        except ClientGone:
            self.status = CLIENT_LEFT_STATUS
        except CandorError as error:
            await self._refuse(error)
        except asyncio.CancelledError:
            # Only the end of the drain cancels a request. Its caller can retry elsewhere.
            self.edge.health.num_cut += self.body_complete
            if self.status is None:
                await self._refuse(Draining("the server shut down before the scores were ready"))
        except Exception:
            log.exception("request_failed", request_id=self.request_id, route=self.route)
            if self.status is None:
                await self._refuse(InternalError("internal error; quote the request id"))
        finally:
            self._record()

    def _check_head(self) -> None:
        edge, headers = self.edge, self.headers
        url_bytes = len(self.scope.get("raw_path") or b"") + len(self.scope["query_string"])
        guards.check_size(headers, url_bytes, edge.limits)
        guards.check_key(headers, edge.key_for(self.path))
        if edge.checks_host(self.path):
            guards.check_host(headers, edge.host_names)
        if edge.health.draining and self.path not in POLLED_PATHS:
            raise Draining(
                "the server is shutting down; use another replica or retry later", retry_after_s=5
            )
        if self.is_post:
            guards.check_post(headers)
        self.scope["state"]["deadline"] = self.began + guards.timeout_s(
            headers, edge.request_timeout_s
        )
        self.scope["state"]["request_id"] = self.request_id

    async def _read_body(self) -> bytes:
        """The whole body. Its size and its time are checked while it arrives."""
        limits, health = self.edge.limits, self.edge.health
        too_large = BodyTooLarge(f"the body is over {limits.body_bytes} bytes; send fewer items")
        lengths = guards.values(self.headers, b"content-length")
        if lengths and int(lengths[0]) > limits.body_bytes:
            raise too_large
        chunks: list[bytes] = []
        begin = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(limits.body_s) as timer:
                health.body_timers.add(timer)
                while not self.body_complete:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    chunks.append(message.get("body", b""))
                    self.num_bytes += len(chunks[-1])
                    if self.num_bytes > limits.body_bytes:
                        raise too_large
                    self.body_complete = not message.get("more_body", False)
                    if not health.draining:
                        timer.reschedule(begin + limits.body_s + self.num_bytes / MIB)
        except TimeoutError:
            if health.draining:
                raise Draining(
                    "the server is shutting down and the body has not arrived", retry_after_s=5
                ) from None
            raise RequestTimeout("the body did not arrive in time") from None
        finally:
            health.body_timers.discard(timer)
        return b"".join(chunks)

    def _replay(self, body: bytes) -> Receive:
        """A `receive` for the route: first the whole body, then the connection's next messages."""
        pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            return pending.pop() if pending else await self._receive()

        return receive

    async def _answer(self, message: Message) -> None:
        """Sends a message of the answer; adds the request id and stores the status."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())]
            if self.edge.health.draining or not self.body_complete:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)

    async def _refuse(self, error: CandorError) -> None:
        """Answers with an error. If the body is still arriving, discards it for `linger_s`.

        Closing at once would reset the connection, and the caller would see the reset instead of
        the answer.
        """
        if isinstance(error, EngineFailed):
            reason = reason_of(root(error))
            log.error(error.type, request_id=self.request_id, route=self.route, reason=reason)
        body, fields = error_answer(error, self.request_id)
        headers = [(name.encode(), value.encode()) for name, value in fields.items()]
        headers.append((b"content-length", str(len(body)).encode()))
        self.edge.metrics.errors.labels(error.type).inc()
        await self._answer(
            {"type": "http.response.start", "status": error.status, "headers": headers}
        )
        unread = not self.body_complete
        await self._answer({"type": "http.response.body", "body": body, "more_body": unread})
        if unread:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.edge.limits.linger_s):
                    while (await self._receive()).get("more_body", False):
                        pass
            await self._answer({"type": "http.response.body", "body": b""})

    def _record(self) -> None:
        seconds = time.monotonic() - self.began
        status = self.status or CLIENT_LEFT_STATUS
        self.edge.metrics.requests.labels(self.route, str(status)).inc()
        self.edge.metrics.request_s.labels(self.route).observe(seconds)
        if self.path not in POLLED_PATHS:
            log.info(
                "request",
                request_id=self.request_id,
                method=self.method,
                route=self.route,
                status=status,
                duration_s=round(seconds, 4),
                body_bytes=self.num_bytes,
            )
