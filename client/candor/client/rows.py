"""The shared part of the trainers' adapters: a server's address, and one outcome per row.

A row is a context and one response. Rows with equal contexts go to the server as one item, so that
the context is computed once and the closed form sees all responses to it. A row that the server
refuses (too long, no text) fails alone: the other rows are sent again without it.

Not here: what a trainer does with a failed row. TRL takes None. verl, verifiers and NeMo take only
numbers, so their adapters raise the failure (a failed score is never a number).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from candor.client.errors import ClientError, ModelChanged, PermanentError
from candor.client.retry import Retry
from candor.client.reward import AsyncRewardClient
from candor.client.schema import ResponseReward, RewardResponse
from candor.client.wire import Truncation

ChatTurn = Mapping[str, Any]
"""A message as trainers have it: `role` and `content`, perhaps with tool calls."""
Context = str | Sequence[ChatTurn]
"""Text with the chat template applied, or the messages before the response."""
Row = tuple[Context, str | ChatTurn]
"""A context and one response to it."""
Outcome = ResponseReward | ClientError
TEXT_PARTS = frozenset({"text", "input_text", "output_text"})

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Any, AsyncRewardClient]]
_clients = WeakKeyDictionary()
"""Clients by event loop and server. A client's connections and its memory of the weights that
answered first belong to one loop."""


class Unscorable(ClientError):
    """The row has more than text (tool calls, images), which a reward model cannot read."""

    type = "unscorable"


@dataclass(frozen=True, slots=True)
class RewardServer:
    """A Candor server as adapters ask it. It can be pickled, as TRL's async GRPO needs.

    Args:
        url: address; None is the environment variable CANDOR_REWARD_URL.
        api_key: key; None is the environment variable CANDOR_API_KEY, where it is set. Trainers log
            their configuration, so prefer the environment.
        penalties: strengths by probe name in place of the served ones, such as
            {"sycophancy": {"kappa": 1.0}}.
        truncation: what happens to a row over the reward model's window: with `left` its oldest
            context is dropped, with `error` the row fails.
        timeout_s: longest wait for one answer, in seconds.
        patience_s: seconds that the server may be unreachable, loading or full before rows fail.
    """

    url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    penalties: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    truncation: Truncation = "error"
    timeout_s: float = 120.0
    patience_s: float = 300.0

    async def rewards(self, rows: Sequence[Row]) -> list[Outcome]:
        """One outcome per row, in order: the scored response, or the error of this row.

        Raises:
            ClientError: a failure that is not about the rows and that waiting does not cure: wrong
                key, wrong address, unknown probe, other weights than at first.
            ValueError: no URL, or a URL that does not begin with http:// or https://.
        """
        outcomes: dict[int, Outcome] = {}
        items: dict[str, dict[str, Any]] = {}
        texts: dict[str, dict[int, str]] = {}
        for number, (context, response) in enumerate(rows):
            try:
                item, text = context_item(context), response_text(response)
            except Unscorable as error:
                outcomes[number] = error
                continue
            key = json.dumps(item)
            items[key] = item
            texts.setdefault(key, {})[number] = text
        found = await asyncio.gather(
            *(self._item(items[key], list(texts[key].values())) for key in items)
        )
        for key, group in zip(items, found, strict=True):
            outcomes |= zip(texts[key], group, strict=True)
        return [outcomes[number] for number in range(len(rows))]

    async def reward(self, context: Context, response: str | ChatTurn) -> ResponseReward:
        """The scored response of one row.

        Raises:
            ClientError, ValueError: the response could not be scored.
        """
        (outcome,) = await self.rewards([(context, response)])
        if isinstance(outcome, ClientError):
            raise outcome
        return outcome

    async def _item(self, item: Mapping[str, Any], texts: Sequence[str]) -> list[Outcome]:
        """One outcome per response of one context, in order."""
        reply, failed = await score_item(
            self._client(), item, texts, self.penalties, truncation=self.truncation
        )
        scored = iter(() if reply is None else reply.results[0].responses)
        return [failed[place] if place in failed else next(scored) for place in range(len(texts))]

    def _client(self) -> AsyncRewardClient:
        """The running event loop's client of this server, made at the first call."""
        url = self.url or os.environ.get("CANDOR_REWARD_URL")
        if url is None:
            raise ValueError("no reward server: give its URL, or set CANDOR_REWARD_URL")
        api_key = self.api_key or os.environ.get("CANDOR_API_KEY")
        clients = _clients.setdefault(asyncio.get_running_loop(), {})
        key = (url, api_key, self.timeout_s, self.patience_s)
        if key not in clients:
            clients[key] = AsyncRewardClient(
                url, api_key=api_key, timeout_s=self.timeout_s, retry=Retry(self.patience_s)
            )
        return clients[key]


async def score_item(
    client: AsyncRewardClient,
    item: Mapping[str, Any],
    texts: Sequence[str],
    penalties: Mapping[str, Mapping[str, Any]],
    *,
    truncation: Truncation = "error",
    unsent: Collection[int] = (),
) -> tuple[RewardResponse | None, dict[int, ClientError]]:
    """Score one context's responses, those that the server refuses left out.

    The server answers a request whole or not at all, so it is asked again without each response
    that it refuses: at most one request per response.

    Args:
        item: the context, as on the wire.
        unsent: indexes of the texts that are not to be scored.

    Returns:
        The reply for the responses that could be scored (None when there are none), and the error
        of each other response by its index in `texts`.

    Raises:
        ClientError: an error that is not about the responses (`is_final`).
        ValueError: the arguments; nothing was sent.
    """
    failed: dict[int, ClientError] = {}
    while True:
        places = [n for n in range(len(texts)) if n not in failed and n not in unsent]
        request = {**item, "responses": [texts[place] for place in places]}
        try:
            return await client.rewards([request], penalties, truncation=truncation), failed
        except ClientError as error:
            if is_final(error):
                raise
            refused = refused_places(error, places)
            if isinstance(error, PermanentError) and error.response is not None:
                error.response = refused[0]  # counted in `texts`, for the message
            failed |= dict.fromkeys(refused, error)
            if len(refused) == len(places):
                return None, failed


def is_final(error: ClientError) -> bool:
    """Whether every later row must fail the same way."""
    if isinstance(error, PermanentError):
        return error.item is None and error.status < 500
    return isinstance(error, ModelChanged)


def refused_places(error: ClientError, places: Sequence[int]) -> Sequence[int]:
    """Those of `places` that the error is about: the response that it names, or all."""
    number = error.response if isinstance(error, PermanentError) else None
    return places if number is None else places[number : number + 1] or places


def context_item(context: Context) -> dict[str, Any]:
    """The context as a field of a `RewardItem`.

    Raises:
        Unscorable: a message is not plain text.
    """
    if isinstance(context, str):
        return {"prompt": context}
    return {"messages": [{"role": turn["role"], "content": text_of(turn)} for turn in context]}


def response_text(response: str | ChatTurn) -> str:
    """The text to score.

    Raises:
        Unscorable: the response is not the assistant's, or not plain text.
    """
    if isinstance(response, str):
        return response
    if response["role"] != "assistant":
        raise Unscorable(f"the last message is the {response['role']}'s, not the assistant's")
    return text_of(response)


def text_of(message: ChatTurn) -> str:
    """The text of a message. Its content is a string, or a list of text parts as in OpenAI's chat
    and responses APIs.

    Raises:
        Unscorable: the message has tool calls, or a part that is not text.
    """
    content = message.get("content")
    if message.get("tool_calls"):
        raise Unscorable(f"the {message['role']} message has tool calls, which have no text")
    if isinstance(content, str):
        return content
    parts = [] if content is None else list(content)
    if not parts or any(part.get("type") not in TEXT_PARTS for part in parts):
        raise Unscorable(f"the content of the {message['role']} message is not text alone")
    return "".join(part["text"] for part in parts)


async def close() -> None:
    """Close the running loop's connections; the next call opens new ones."""
    for client in _clients.pop(asyncio.get_running_loop(), {}).values():
        await client.close()
