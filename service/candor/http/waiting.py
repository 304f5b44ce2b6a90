"""What scoring routes do around their own words: find the model, and wait while the caller does.

Translation is the routes' business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

from candor.errors import DeadlineExceeded, NotReady
from candor.http.edge import ClientGone
from candor.scoring.rewarder import Rewarder
from candor.watch.health import Health

T = TypeVar("T")

COME_BACK_S = 5
"""`Retry-After` while the server is not ready."""


def loaded(request: Request) -> Rewarder:
    """The rewarder, once there is one.

    Raises:
        NotReady: still loading.
    """
    rewarder: Rewarder | None = request.app.state.rewarder
    if rewarder is None:
        reason = request.app.state.health.reason or "not ready"
        raise NotReady(reason, retry_after_s=COME_BACK_S)
    return rewarder


def ready(request: Request) -> Rewarder:
    """The rewarder, if its scores are to be trusted.

    Raises:
        NotReady: still loading, or the sentinel's scores are wrong.
    """
    rewarder = loaded(request)
    health: Health = request.app.state.health
    if health.status == "wrong_scores":
        raise NotReady(health.reason or "not ready", retry_after_s=COME_BACK_S)
    return rewarder


async def while_awaited(request: Request, work: Awaitable[T], deadline: float) -> T:
    """`await work`, cancelled when the caller hangs up or the deadline passes.

    What nobody waits for any more leaves the queue unscored, and a caller is answered at its
    deadline even when the model is stuck.

    Raises:
        ClientGone: the caller left first.
        DeadlineExceeded: it is `deadline`, in `time.monotonic()` seconds.
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
        raise DeadlineExceeded("the deadline passed before the scores were there", retry_after_s=1)
    finally:
        gone.cancel()
        working.cancel()
