"""The clients behind the rows: one per event loop and server, each introduced by its first call.

The first call asks the server who it is and logs that in one line.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Mapping
from typing import Any

from candor.client.retry import Retry, shown
from candor.client.reward import AsyncRewardClient
from candor.client.rows.forms import plain

log = logging.getLogger("candor.client")

_clients: dict[asyncio.AbstractEventLoop, dict[Any, _Known]] = {}
"""Clients by event loop and server. A client's connections and its memory of the weights that
answered first belong to one loop."""


async def introduced_client(
    url: str,
    api_key: str | None,
    *,
    timeout_s: float,
    patience_s: float,
    penalties: Mapping[str, Any],
) -> AsyncRewardClient:
    """The running event loop's client of this server, made at the first call.

    Raises:
        ClientError: no answer within the patience, a wrong key, or not a Candor server.
        ValueError: `url` is not an HTTP address.
    """
    forget_closed(_clients)
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    key = (url, api_key, timeout_s, patience_s)
    if key not in clients:
        clients[key] = _Known(
            AsyncRewardClient(url, api_key=api_key, timeout_s=timeout_s, retry=Retry(patience_s))
        )
    known = clients[key]
    await known.introduced(url, penalties)
    return known.client


def forget_closed(by_loop: dict[asyncio.AbstractEventLoop, Any]) -> None:
    """Remove what belongs to event loops that have ended, of which a program that calls
    `asyncio.run` per step has one per step. Weak keys do not: a client and a lock hold their loop.
    """
    for loop in [*by_loop]:  # a copy, because loops of other threads are added meanwhile
        if loop.is_closed():
            by_loop.pop(loop, None)


async def close() -> None:
    """Close the running loop's connections; the next call opens new ones."""
    for known in _clients.pop(asyncio.get_running_loop(), {}).values():
        await known.close()


class _Known:
    """A client, and whether its server has said who it is."""

    def __init__(self, client: AsyncRewardClient) -> None:
        self.client = client
        self._asking: asyncio.Task[None] | None = None

    async def introduced(self, url: str, penalties: Mapping[str, Any]) -> None:
        """Ask the server once whether it is ready and what it serves, and log that in one line.
        Calls at the same time wait for the same answer; after a failure the next call asks again.

        Raises:
            ClientError: no answer within the patience, a wrong key, or not a Candor server.
        """
        task = self._asking
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._asking = asyncio.create_task(self._introduce(url, penalties))
        await asyncio.shield(task)

    async def _introduce(self, url: str, penalties: Mapping[str, Any]) -> None:
        model = await self.client.identify()
        asked = f", with penalties {json.dumps(plain(penalties))}" if penalties else ""
        _tell(
            f"rewards come from {shown(url.strip())}: model {model.id} ({model.revision[:12]}), "
            f"reward = {model.formula}{asked}"
        )

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        await self.client.close()


def _tell(message: str) -> None:
    """An INFO line of the log; on stderr where the program has not set logging up, because Python
    then drops INFO."""
    if log.hasHandlers():
        log.info(message)
    else:
        print(f"candor: {message}", file=sys.stderr)
