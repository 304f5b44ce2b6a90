"""uvicorn's httptools protocol with two limits that it lacks: on the time for the head, and on
bytes that are not body.

Stock uvicorn waits for a request head without limit, and lets httptools collect a header of 200 MB.
Both happen before any application code runs, so only a protocol can bound them. `edge.py` bounds
time and size of the body.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection if its request head is late, or if head, framing or trailers are too
    large."""

    head_timeout_s: ClassVar[float] = 10.0
    """Counts from the start of a new connection, or from the first byte of a further head."""

    max_head_bytes: ClassVar[int] = 32 * 1024

    _head_timer: asyncio.TimerHandle | None = None
    _in_head = True
    _body_bytes = 0
    _other_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head and self._head_timer is None:
            self._start_head_timer()
        self._other_bytes += len(data)
        super().data_received(data)
        # Chunked framing costs up to 5 bytes per byte of body. All other bytes are headers,
        # trailers or padding.
        if self._other_bytes > self.max_head_bytes + 8 * self._body_bytes:
            self._refuse()

    def on_headers_complete(self) -> None:
        self._stop_head_timer()
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._other_bytes -= len(body)
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True
        self._body_bytes = self._other_bytes = 0

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._head_is_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            # Closes now, or after the answer to an earlier pipelined request.
            self.shutdown()

    def _refuse(self) -> None:
        if not self.transport.is_closing():
            # No answer is sent: the peer is still sending, and an answer may be half written.
            self.transport.abort()
