"""Shared by the routes: the server's state, and waiting for work until the caller leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from fastapi import Request

from candor.errors import DeadlineExceeded, NotReady
from candor.http.edge import ClientGone
from candor.scoring.rewarder import Rewarder
from candor.settings import Settings
from candor.watch.health import Health
from candor.watch.metrics import Metrics

T = TypeVar("T")

NOT_READY_RETRY_AFTER_S = 5
"""`Retry-After` while the server is not ready."""


@dataclass(slots=True, kw_only=True)
class ServerState:
    """The state of one server, from its start to its end. `app.state.server` holds it."""

    settings: Settings
    health: Health
    metrics: Metrics
    rewarder: Rewarder | None = None
    """None until the model is loaded, because the port is bound long before."""
    began: datetime = field(default_factory=lambda: datetime.now(UTC))


def get_state(request: Request) -> ServerState:
    """The state of the server that received the request."""
    state: ServerState = request.app.state.server
    return state


def get_rewarder(request: Request) -> Rewarder:
    """The rewarder of a server that has loaded its model.

    Raises:
        NotReady: the model is loading.
    """
    state = get_state(request)
    if state.rewarder is None:
        raise NotReady(state.health.reason or "not ready", retry_after_s=NOT_READY_RETRY_AFTER_S)
    return state.rewarder


def get_ready_rewarder(request: Request) -> Rewarder:
    """The rewarder of a server whose scores can be trusted.

    Raises:
        NotReady: the model is loading, or the sentinel's scores are wrong.
    """
    rewarder = get_rewarder(request)
    health = get_state(request).health
    if health.status == "wrong_scores":
        raise NotReady(health.reason or "not ready", retry_after_s=NOT_READY_RETRY_AFTER_S)
    return rewarder


async def cancel_when_client_disconnects(
    request: Request, work: Awaitable[T], deadline: float
) -> T:
    """`await work`, cancelled when the caller disconnects or when the deadline passes.

    So items of a caller that has left leave the queue unscored, and a caller is answered at the
    deadline even if the model is stuck.

    Args:
        deadline: in `time.monotonic()` seconds.

    Raises:
        ClientGone: the caller left first.
        DeadlineExceeded: the deadline has passed.
    """

    async def hang_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working = asyncio.ensure_future(work)
    gone = asyncio.create_task(hang_up())
    try:
        await asyncio.wait(
            {working, gone},
            timeout=max(0.0, deadline - time.monotonic()),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if working.done():
            return working.result()
        if gone.done():
            raise ClientGone
        raise DeadlineExceeded(
            "the deadline passed before the scores were ready",
            retry_after_s=get_rewarder(request).batcher.retry_after_s,
        )
    finally:
        gone.cancel()
        working.cancel()
