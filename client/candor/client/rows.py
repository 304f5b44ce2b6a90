"""The shared part of the trainers' adapters: a server's address, and one outcome per row.

A row is a context and one response. Rows with equal contexts go to the server as one item, so that
the context is computed once and the closed form sees all responses to it. A row that cannot be
scored (too long, no text, not Unicode, no response at all) fails alone: its outcome is the error,
and the other rows are sent without it. Every other failure is raised, because no row is to blame: a
server that is away, a wrong key or address, another service's answer. A trainer that took such rows
for unscored would train on nothing and call it success.

The first call asks the server who it is and logs that in one line.

Not here: what a trainer does with a failed row. TRL takes None. verl, verifiers and NeMo take only
numbers, so their adapters raise the failure (a failed score is never a number).
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from pydantic import ValidationError

from candor.client.errors import ClientError, PermanentError, RewardError
from candor.client.retry import Retry, shown
from candor.client.reward import API_KEY_VARIABLE, AsyncRewardClient
from candor.client.schema import TEXT_PARTS, Message, ResponseReward, RewardResponse
from candor.client.wire import EmptyResponse, Include, Truncation, describe_first_error

T = TypeVar("T")

ChatTurn = Mapping[str, Any]
"""A message as trainers have it: `role` and `content`, perhaps with tool calls."""


@dataclass(frozen=True, slots=True)
class MessagesAndTools:
    """The messages before the response, and the tools that the policy could call."""

    messages: Sequence[ChatTurn]
    tools: Sequence[Mapping[str, Any]] = ()
    """In OpenAI's form: `{"type": "function", "function": {...}}`."""


Context = str | Sequence[ChatTurn] | MessagesAndTools
"""Text with the chat template applied, or the messages before the response."""
Row = tuple[Context, str | ChatTurn]
"""A context and one response to it."""
Reply = str | dict[str, Any]
"""A response as on the wire: its text, or an assistant's message."""
Outcome = ResponseReward | ClientError

log = logging.getLogger("candor.client")

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Any, _Known]]
_clients = WeakKeyDictionary()
"""Clients by event loop and server. A client's connections and its memory of the weights that
answered first belong to one loop."""


class Unscorable(ClientError):
    """The row is not a context and a response: it has an image, no response, a message without a
    role, a character that is not Unicode. Nothing was sent."""

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
        patience_s: seconds that the server may be unreachable, loading or full before the call
            fails.
        empty_response: what happens to a row whose response has no token: with `score` the empty
            turn is scored, with `error` the row fails.
        templated: whether prompts that are texts are meant as they are, although they hold no turn
            of the reward model's chat template. Otherwise the server refuses such a prompt.
    """

    url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    penalties: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    truncation: Truncation = "error"
    timeout_s: float = 120.0
    patience_s: float = 300.0
    empty_response: EmptyResponse = "error"
    templated: bool = False

    @classmethod
    def of_environment(cls) -> RewardServer:
        """The server that environment variables describe, for trainers that only name a function.

        | variable | field |
        | --- | --- |
        | CANDOR_REWARD_URL | `url` |
        | CANDOR_API_KEY | `api_key` |
        | CANDOR_REWARD_PENALTIES | `penalties`, as JSON: {"sycophancy": {"kappa": 1.0}} |
        | CANDOR_REWARD_TRUNCATION | `truncation`: error or left |
        | CANDOR_REWARD_EMPTY_RESPONSE | `empty_response`: error or score |
        | CANDOR_REWARD_TEMPLATED | `templated`: 1 or 0 |
        | CANDOR_REWARD_TIMEOUT_S | `timeout_s` |
        | CANDOR_REWARD_PATIENCE_S | `patience_s` |

        Raises:
            ValueError: a variable has a wrong value; the message names it.
        """
        given = {
            name: value
            for name in _ENVIRONMENT
            if (value := os.environ.get(f"CANDOR_REWARD_{name.upper()}"))
        }
        settings: dict[str, Any] = {}
        for name, text in given.items():
            try:
                settings[name] = _ENVIRONMENT[name](text)
            except ValueError as error:
                raise ValueError(f"CANDOR_REWARD_{name.upper()}={text}: {error}") from None
        return cls(**settings)

    async def rewards(self, rows: Sequence[Row]) -> list[Outcome]:
        """One outcome per row, in order: the scored response, or the error of this row.

        Raises:
            ClientError: a failure that is not about the rows: no answer within the patience, wrong
                key, wrong address, an answer that is not Candor's, unknown probe, other weights
                than at first; or, where no row has a reward, a 400, a 500, or a template that
                does not take the rows' tools.
            ValueError: no URL, or a URL that does not begin with http:// or https://.
        """
        client = await self._client()
        outcomes: dict[int, Outcome] = {}
        items: dict[str, dict[str, Any]] = {}
        texts: dict[str, dict[int, Reply]] = {}
        for number, (context, response) in enumerate(rows):
            try:
                item, text = context_item(context), response_of(response)
                if "prompt" in item and not isinstance(text, str):
                    raise Unscorable("a response with more than text needs messages as its prompt")
                if "prompt" in item and self.templated:
                    item["templated"] = True
            except Unscorable as error:
                outcomes[number] = error
                continue
            key = json.dumps(item)
            items[key] = item
            texts.setdefault(key, {})[number] = text
        found = await _all(self._item(client, items[key], [*texts[key].values()]) for key in items)
        for key, group in zip(items, found, strict=True):
            outcomes |= zip(texts[key], group, strict=True)
        if not any(isinstance(outcome, ResponseReward) for outcome in outcomes.values()):
            with_tools = any("tools" in item for item in items.values())
            for outcome in outcomes.values():
                if isinstance(outcome, RewardError) and not is_surely_of_row(outcome, with_tools):
                    raise outcome
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

    async def _item(
        self, client: AsyncRewardClient, item: Mapping[str, Any], texts: Sequence[Reply]
    ) -> list[Outcome]:
        """One outcome per response of one context, in order."""
        try:
            reply, failed = await score_item(
                client,
                item,
                texts,
                self.penalties,
                truncation=self.truncation,
                empty_response=self.empty_response,
            )
        except PermanentError as error:
            if error.status != SERVER_BUG:
                raise
            return [error] * len(texts)  # whether the rows or the server is to blame: `rewards`
        scored = iter(() if reply is None else reply.results[0].responses)
        return [failed[place] if place in failed else next(scored) for place in range(len(texts))]

    async def _client(self) -> AsyncRewardClient:
        """The running event loop's client of this server, made at the first call.

        Raises:
            ClientError: as `introduced`.
            ValueError: no URL, or one that is not an HTTP address.
        """
        url = self.url or os.environ.get("CANDOR_REWARD_URL")
        if not url:
            raise ValueError("no reward server: give its URL, or set CANDOR_REWARD_URL")
        api_key = self.api_key or os.environ.get(API_KEY_VARIABLE)
        clients = _clients.setdefault(asyncio.get_running_loop(), {})
        key = (url, api_key, self.timeout_s, self.patience_s)
        if key not in clients:
            clients[key] = _Known(
                AsyncRewardClient(
                    url, api_key=api_key, timeout_s=self.timeout_s, retry=Retry(self.patience_s)
                )
            )
        known = clients[key]
        await known.introduced(url, self.penalties)
        return known.client


_ENVIRONMENT: dict[str, Callable[[str], Any]] = {
    "penalties": lambda text: _json_mapping(text),
    "truncation": lambda text: _one_of(text, ("error", "left")),
    "empty_response": lambda text: _one_of(text, ("error", "score")),
    "templated": lambda text: _one_of(text, ("1", "0")) == "1",
    "timeout_s": lambda text: _seconds(text),
    "patience_s": lambda text: _seconds(text),
}
"""Fields of a `RewardServer` that a variable CANDOR_REWARD_NAME sets, and how each is read. Address
and key are read at the call."""


def _json_mapping(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError('must be JSON such as {"sycophancy": {"kappa": 1.0}}')
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError("must be seconds, a number from 0")
    return value


def _one_of(text: str, names: Sequence[str]) -> str:
    if text not in names:
        raise ValueError(f"must be one of {', '.join(names)}")
    return text


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
        asked = f", with penalties {json.dumps(_plain(penalties))}" if penalties else ""
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


async def _all(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results in order. At the first exception the rest is cancelled: nothing goes on asking
    for a call that has failed."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def score_item(
    client: AsyncRewardClient,
    item: Mapping[str, Any],
    texts: Sequence[Reply],
    penalties: Mapping[str, Mapping[str, Any]],
    *,
    include: Include = (),
    truncation: Truncation = "error",
    empty_response: EmptyResponse = "error",
    unsent: Collection[int] = (),
) -> tuple[RewardResponse | None, dict[int, ClientError]]:
    """Score one context's responses, those that the server refuses left out.

    The server answers a request whole or not at all, so it is asked again without each response
    that it refuses: at most one request per response.

    Args:
        item: the context, as on the wire.
        include: what the reply is to hold beside the scores: `tokens`, `text`.
        unsent: indexes of the texts that are not to be scored.

    Returns:
        The reply for the responses that could be scored (None when there are none), and the error
        of each other response by its index in `texts`.

    Raises:
        ClientError: an error that is not about the responses (see `blames_row`).
        ValueError: the arguments; nothing was sent.
    """
    failed: dict[int, ClientError] = {}
    while True:
        places = [n for n in range(len(texts)) if n not in failed and n not in unsent]
        if not places:
            return None, failed
        request = {**item, "responses": [texts[place] for place in places]}
        try:
            reply = await client.rewards([request], penalties, include, truncation, empty_response)
            return reply, failed
        except PermanentError as error:
            if not blames_row(error):
                raise
            refused = refused_places(error, places, texts)
            if error.response is not None:
                error.response = refused[0]  # counted in `texts`, for the message
            failed |= dict.fromkeys(refused, error)


MISUSE = 400
TOO_LARGE = 413
SERVER_BUG = 500
TEMPLATE_REFUSED = "invalid_messages"
"""The server's name for messages that the reward model's template refuses or leaves out."""


def blames_row(error: ClientError) -> bool:
    """Whether the failure is about what was sent, and other rows can still be scored: the row has
    no text to send, or the server names the item that it refuses, or the body is too large."""
    if isinstance(error, PermanentError):
        return error.item is not None or error.status == TOO_LARGE
    return isinstance(error, Unscorable)


def is_surely_of_row(error: RewardError, with_tools: bool = False) -> bool:
    """Whether the refusal is about a text and not about how the server is asked. A 400 (a prompt
    without the template, an unknown field), a server error, or a template that does not take what
    was sent `with_tools` may be either, and so may a proxy's refusal: where no row of a call has a
    reward, it is the call's."""
    if with_tools and error.type == TEMPLATE_REFUSED:
        return False
    if error.type.startswith("http_"):  # no words of Candor's: a proxy's answer, such as its limit
        return False
    return error.status not in (MISUSE, SERVER_BUG) or error.type == "engine_failed"


def refused_places(
    error: PermanentError, places: Sequence[int], texts: Sequence[Reply]
) -> Sequence[int]:
    """Those of `places` that the error is about: the response that it names; the longest, where the
    body is too large; or all."""
    if error.item is None:
        return [max(places, key=lambda place: len(json.dumps(texts[place])))]
    number = error.response
    return places if number is None else places[number : number + 1] or places


def context_item(context: Any) -> dict[str, Any]:
    """The context as a field of a `RewardItem`.

    Raises:
        Unscorable: it is neither a text nor messages, or the tools are no list of objects.
    """
    if isinstance(context, MessagesAndTools):
        tools = tools_of(context.tools)
        return context_item(context.messages) | ({"tools": tools} if tools else {})
    if isinstance(context, str):
        return {"prompt": unicode_text(context, "the prompt")}
    turns = _plain(context)
    if not isinstance(turns, list) or not turns:
        raise Unscorable(f"the prompt is {_kind(turns)}, neither a text nor messages")
    return {"messages": [message_of(turn, f"message {n}") for n, turn in enumerate(turns)]}


def tools_of(tools: Any) -> list[dict[str, Any]]:
    """Tools as on the wire.

    Raises:
        Unscorable: they are no list of JSON objects.
    """
    tools = _plain(tools)
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise Unscorable("the tools are not a list of objects")
    try:
        unicode_text(json.dumps(tools, ensure_ascii=False, allow_nan=False), "the list of tools")
    except (TypeError, ValueError):
        raise Unscorable("the tools are not JSON") from None
    return tools


def message_of(turn: Any, where: str) -> dict[str, Any]:
    """One message, as on the wire: with its tool calls, names and text parts, which the reward
    model's chat template reads. Fields that are null are left out.

    Raises:
        Unscorable: it is not a message that the server takes.
    """
    turn = _plain(turn)
    if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str):
        raise Unscorable(f"{where} is not an object with a role")
    message = {name: value for name, value in turn.items() if value is not None}
    if isinstance(message.get("content"), list):
        message["content"] = [_part(part) for part in message["content"]]
    try:
        unicode_text(json.dumps(message, ensure_ascii=False), where)
        sent = Message.model_validate(message).as_sent()
    except ValidationError as error:
        raise Unscorable(f"{where}: {describe_first_error(error)}") from None
    except (TypeError, ValueError):
        raise Unscorable(f"{where} is not JSON") from None
    return {name: value for name, value in sent.items() if value is not None}


def _part(part: Any) -> Any:
    """A part of a content, without what OpenAI's responses API adds to a text (annotations)."""
    if isinstance(part, Mapping) and part.get("type") in TEXT_PARTS and "text" in part:
        return {"type": part["type"], "text": part["text"]}
    return part


def response_of(response: Any) -> Reply:
    """The response as on the wire: its text, or the message where it is more than text.

    Raises:
        Unscorable: the response is not the assistant's, or nothing that can be scored.
    """
    if isinstance(response, str):
        return unicode_text(response, "the response")
    turn = _plain(response)
    if not isinstance(turn, Mapping):
        raise Unscorable(f"the response is {_kind(turn)}, neither a text nor a message")
    if turn.get("role") != "assistant":
        raise Unscorable(f"the last message is of role {turn.get('role')!r}, not the assistant's")
    message = message_of(turn, "the response")
    if message.keys() == {"role"}:
        raise Unscorable("the response has neither a content nor tool calls")
    return message if message.keys() - {"role", "content"} else _text(message["content"])


def _text(content: str | list[dict[str, str]]) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def unicode_text(text: str, where: str) -> str:
    """The text itself.

    Raises:
        Unscorable: it has a lone surrogate, which no encoding can carry.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Unscorable(
            f"{where} has a lone surrogate at character {error.start}, which is not Unicode"
        ) from None
    return str(text)


def _plain(value: Any) -> Any:
    """The value with lists in place of arrays and other sequences, and dicts in place of other
    mappings: data frames and configurations bring such things."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if hasattr(value, "tolist"):  # numpy's arrays and scalars
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(part) for part in value]
    return value


def _kind(value: Any) -> str:
    if isinstance(value, Sequence) and not len(value):
        return "empty"
    return "missing" if value is None else f"of type {type(value).__name__}"


async def close() -> None:
    """Close the running loop's connections; the next call opens new ones."""
    for known in _clients.pop(asyncio.get_running_loop(), {}).values():
        await known.close()
