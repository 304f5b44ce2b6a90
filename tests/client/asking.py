"""What the tests of the adapters share: texts, what the native API says of them, and one event loop
a call with the adapters' connections closed at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from candor.client import RewardClient, rows
from candor.client.rows import Outcome, RewardServer, connections

QUESTION = [{"role": "user", "content": "What do you think of this poem?"}]
REPLIES = ["I think it is very good.", "The sea is blue.", "It is good, thank you."]
TOO_LONG = "the sea " * 300
"""For the tiny RM, whose window is 256 tokens."""

GOOD = (QUESTION, REPLIES[0])
"""A row that can be scored."""


def run(call: Callable[[], Awaitable[Any]]) -> Any:
    async def call_and_close() -> Any:
        try:
            return await call()
        finally:
            await rows.close()

    return asyncio.run(call_and_close())


def ask(url: str | None, rows: list[Any], **settings: Any) -> list[Outcome]:
    """An adapter's question in an event loop of its own."""
    found: list[Outcome] = run(lambda: RewardServer(url, **settings).rewards(rows))
    return found


def said(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def native(
    url: str, replies: Sequence[Any], penalties: dict[str, Any] | None = None, **context: Any
) -> list[Any]:
    """The scored responses of one item of `POST /v1/rewards`."""
    with RewardClient(url) as client:
        return (
            client.rewards([{**context, "responses": [*replies]}], penalties).results[0].responses
        )


def close_others() -> None:
    """Close what a trainer left open in an event loop of its own, in a thread of its own."""
    for loop in [loop for loop in connections._clients if not loop.is_closed()]:
        asyncio.run_coroutine_threadsafe(rows.close(), loop).result(10)
