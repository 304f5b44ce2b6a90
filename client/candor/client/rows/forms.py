"""A row as it goes on the wire: its context as a field of an item, and its response.

Trainers bring data frames, configurations and OpenAI's objects. What is no context and no response
is `Unscorable`, before anything is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from candor.client.errors import ClientError
from candor.client.schema import TEXT_PARTS, Message
from candor.client.wire import describe_first_error

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


class Unscorable(ClientError):
    """The row is not a context and a response: it has an image, no response, a message without a
    role, a character that is not Unicode. Nothing was sent."""

    type = "unscorable"


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
    turns = plain(context)
    if not isinstance(turns, list) or not turns:
        raise Unscorable(f"the prompt is {_kind(turns)}, neither a text nor messages")
    return {"messages": [message_of(turn, f"message {n}") for n, turn in enumerate(turns)]}


def tools_of(tools: Any) -> list[dict[str, Any]]:
    """Tools as on the wire.

    Raises:
        Unscorable: they are no list of JSON objects.
    """
    tools = plain(tools)
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
    turn = plain(turn)
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
    turn = plain(response)
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


def plain(value: Any) -> Any:
    """The value with lists in place of arrays and other sequences, and dicts in place of other
    mappings: data frames and configurations bring such things."""
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    if hasattr(value, "tolist"):  # numpy's arrays and scalars
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(part) for part in value]
    return value


def _kind(value: Any) -> str:
    if isinstance(value, Sequence) and not len(value):
        return "empty"
    return "missing" if value is None else f"of type {type(value).__name__}"
