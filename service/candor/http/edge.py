"""The edge: what every HTTP request must pass before a route sees it, as one pure ASGI layer.

In order: request id, size of the head, Host, the key, draining, form of a POST, the body (counted
and timed). Then the route; then one access line and the metrics. It also answers every error that a
route raises, so there is one place where an error becomes bytes.

Deny by default: without the key only `OPEN` is answered, and that is decided on the very path the
router will see, never on a URL rebuilt from the Host header (which is how CVE-2026-48746 came to
be). TLS, quotas and floods are a proxy's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from candor import logs
from candor.errors import BodyTooLarge, CandorError, Draining, InternalError, RequestTimeout
from candor.http import guards
from candor.http.guards import MIB, Limits
from candor.watch.health import Health
from candor.watch.metrics import Metrics

log = logs.get(__name__)

OPEN = frozenset({"/livez", "/readyz", "/ready", "/health"})
"""Answered without a key and while draining: they say whether to send work, nothing else."""
OPERATOR = frozenset({"/metrics", "/v1/drift", "/v1/drift/reference"})
"""Where monitors show: with an operator key, these take that key and no other."""
QUIET = OPEN | {"/metrics"}
"""Not in the access log: probes and scrapers would drown it."""

GONE = 499
"""Status in log and metrics for a caller who left before the answer; never sent."""


class ClientGone(Exception):
    """The caller closed the connection; there is nobody to answer."""


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
        routes: the paths the app answers; anything else is "other" in the metrics.
        operator_key: of `OPERATOR`; None leaves them to `api_key`.
        host_names: DNS names a Host header may carry beside localhost.
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
        host_names: Collection[str] = (),
        request_timeout_s: float = 95.0,
        limits: Limits | None = None,
    ) -> None:
        self.app = app
        self.health = health
        self.metrics = metrics
        self.routes = frozenset(routes)
        self.host_names = frozenset({"localhost", *(name.lower() for name in host_names)})
        self.request_timeout_s = request_timeout_s
        self.limits = limits or Limits()
        self._key = api_key.encode() if api_key is not None else None
        self._operator_key = operator_key.encode() if operator_key is not None else self._key

    def key_for(self, path: str) -> bytes | None:
        """What a request for `path` must show; None where nothing is asked for."""
        if path in OPEN:
            return None
        return self._operator_key if path in OPERATOR else self._key

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
        # The router sees this very path: a trailing slash is answered, not redirected.
        self.scope = {**scope, "path": self.path, "state": dict(scope.get("state") or {})}
        self.is_post = scope["method"] == "POST"
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
            self.status = GONE
        except CandorError as error:
            await self._refuse(error)
        except asyncio.CancelledError:
            # Only the end of the drain cancels a request; its caller can go elsewhere with it.
            self.edge.health.num_cut += self.body_complete
            if self.status is None:
                await self._refuse(Draining("shut down before the scores were there"))
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
        guards.check_host(headers, edge.host_names)
        guards.check_key(headers, edge.key_for(self.path))
        if edge.health.draining and self.path not in QUIET:
            raise Draining("shutting down; use another replica or come back", retry_after_s=5)
        if self.is_post:
            guards.check_post(headers)
        self.scope["state"]["deadline"] = self.began + guards.timeout_s(
            headers, edge.request_timeout_s
        )
        self.scope["state"]["request_id"] = self.request_id

    async def _read_body(self) -> bytes:
        """The whole body; its size is counted and its time checked while it arrives."""
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
                raise Draining("shutting down before the body came", retry_after_s=5) from None
            raise RequestTimeout("the body did not arrive in time") from None
        finally:
            health.body_timers.discard(timer)
        return b"".join(chunks)

    def _replay(self, body: bytes) -> Receive:
        """A `receive` for the route: the body at once, then what the connection says next."""
        pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            return pending.pop() if pending else await self._receive()

        return receive

    async def _answer(self, message: Message) -> None:
        """Send, with the request id, and remember the status."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self.request_id.encode())]
            if self.edge.health.draining or not self.body_complete:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)

    async def _refuse(self, error: CandorError) -> None:
        """Answer with an error; if a body is still coming, throw it away for a moment first.

        Closing at once would reset the connection, and the caller would see that in place of the
        answer.
        """
        body, named = error_answer(error, self.request_id)
        headers = [(name.encode(), value.encode()) for name, value in named.items()]
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
        status = self.status or GONE
        self.edge.metrics.requests.labels(self.route, str(status)).inc()
        self.edge.metrics.request_s.labels(self.route).observe(seconds)
        if self.path not in QUIET:
            log.info(
                "request",
                request_id=self.request_id,
                method=self.scope["method"],
                route=self.route,
                status=status,
                duration_s=round(seconds, 4),
                body_bytes=self.num_bytes,
            )
