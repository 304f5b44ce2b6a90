"""The internal request type: `ScoringRequest`, made from a body's bytes or from a trainer's call.

A request holds groups. A group is a context and the responses to it. A context is messages,
templated text, or templated text with an open turn. Code behind the routes uses these types and
never the wire types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError

from candor.client.schema import (
    MAX_ITEMS,
    Message,
    PenaltyOverride,
    RewardItem,
    RewardRequest,
)
from candor.errors import InvalidRequest
from candor.invalid import MAX_OBJECTS, first_fault_as_error, refuse_many_objects

Truncation = Literal["error", "left"]
Empty = Literal["error", "score"]
"""What becomes of a response without a token: `error` refuses it, `score` scores the empty turn."""


Content = str | tuple[str, ...] | None
"""A message's text, the texts of its parts, or nothing (an assistant's message that only calls)."""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a conversation.

    Attributes:
        others: what the message has beside role and content, by the names that chat templates use
            (`candor.client.schema.OTHER_FIELDS`). Only fields that say something.
    """

    role: str
    content: Content
    others: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, message: Message) -> ChatMessage:
        return cls(message.role, message.text, message.others)

    @property
    def texts(self) -> tuple[str, ...]:
        """The content's text, in parts."""
        return (self.content,) if isinstance(self.content, str) else self.content or ()

    @property
    def num_text_chars(self) -> int:
        return sum(map(len, self.texts))

    @property
    def num_chars(self) -> int:
        """The characters that the chat template has to work through."""
        return self.num_text_chars + num_json_chars(self.others)

    @property
    def is_plain(self) -> bool:
        """Whether the message is its text and nothing else."""
        return not self.others and self.content is not None


def num_json_chars(value: Any) -> int:
    """About the length of a value as JSON: the characters of its texts, and one for each value."""
    waiting, total = [value], 0
    while waiting:
        part = waiting.pop()
        total += 1
        if isinstance(part, str):
            total += len(part)
        elif isinstance(part, Mapping):
            waiting.extend(part)
            waiting.extend(part.values())
        elif isinstance(part, list | tuple):
            waiting.extend(part)
    return total


CHARS_PER_MESSAGE = 32
"""What a message counts beside its text: to write an empty one is work, too."""

Reply = str | ChatMessage
"""A response: its text, or a message where it is more than text (tool calls, reasoning)."""


def reply_of(response: str | Message) -> Reply:
    """The internal form of a response. A message that is only text is that text."""
    if isinstance(response, str):
        return response
    message = ChatMessage.of(response)
    if not message.is_plain:
        return message
    return "".join(message.texts)


@dataclass(frozen=True, slots=True)
class Messages:
    """A conversation. The RM's chat template is applied to it, with the response as last turn.

    Attributes:
        tools: the conversation's tools, for the chat template.
        is_policys: whether the responses are what a policy wrote, marks of its own included. Such a
            response is never refused because the template would not write it.
    """

    turns: tuple[ChatMessage, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    is_policys: bool = field(default=False, compare=False)

    @property
    def num_text_chars(self) -> int:
        return sum(turn.num_text_chars for turn in self.turns)

    @property
    def num_chars(self) -> int:
        """The characters that the chat template has to work through."""
        turns = sum(turn.num_chars for turn in self.turns)
        return turns + CHARS_PER_MESSAGE * len(self.turns) + num_json_chars(self.tools)

    @classmethod
    def of(
        cls, messages: Iterable[Message], tools: Iterable[Mapping[str, Any]] | None = None
    ) -> Messages:
        """The conversation in a body's messages, and the body's tools."""
        return cls(tuple(ChatMessage.of(message) for message in messages), tuple(tools or ()))


@dataclass(frozen=True, slots=True)
class Text:
    """Text with the chat template already applied. The response is appended unchanged.

    Attributes:
        is_meant: False for a text that must hold a turn of the served template.
    """

    text: str
    is_meant: bool = True

    @property
    def num_chars(self) -> int:
        return len(self.text)

    num_text_chars = num_chars


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """Templated text that ends where the content of the last turn before the response ends. The
    chat template writes the rest, as if that turn were a user's."""

    text: str

    @property
    def num_chars(self) -> int:
        return len(self.text)

    num_text_chars = num_chars


Context = Messages | Text | OpenTurn


@dataclass(frozen=True, slots=True)
class Group:
    """A context and the responses to it."""

    context: Context
    responses: tuple[Reply, ...]


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """Groups to score together: either all of them are answered or none.

    Attributes:
        groups: at least one; each has at least one response.
        penalties: overrides of the served penalties, by probe name.
        want_tokens: also answer the probe logits of each response token.
        want_text: also answer the templated text and its tokens.
        truncation: for a text longer than the RM's window. `error` refuses it, `left` drops its
            oldest context tokens.
        empty_response: for a response without a token. `error` refuses it, `score` gives the R of
            the empty turn and no penalty.
    """

    groups: tuple[Group, ...]
    penalties: Mapping[str, PenaltyOverride] = field(default_factory=dict)
    want_tokens: bool = False
    want_text: bool = False
    truncation: Truncation = "error"
    empty_response: Empty = "error"

    def places(self) -> list[tuple[int, int]]:
        """(group, response) of every response, in order.

        Raises:
            InvalidRequest: more than `MAX_ITEMS` responses.
        """
        total = sum(len(group.responses) for group in self.groups)
        if total > MAX_ITEMS:
            raise InvalidRequest(f"{total} responses in one request; send at most {MAX_ITEMS}")
        return [
            (index, number)
            for index, group in enumerate(self.groups)
            for number in range(len(group.responses))
        ]


def parse(body: bytes) -> ScoringRequest:
    """The request in the body of `POST /v1/rewards`.

    Types are strict: a number in quotes is not a number. NaN, Infinity, lone surrogates and bytes
    that are not UTF-8 are not JSON.

    Raises:
        InvalidRequest: the message says where the fault is. It never repeats a value, and it
            repeats a field's name only if the name is short and plain.
    """
    if len(body) > MAX_OBJECTS:
        refuse_many_objects(body)
    try:
        return from_wire(RewardRequest.model_validate_json(body, strict=True))
    except ValidationError as error:
        fault = first_fault_as_error(error)
    raise fault


def from_wire(request: RewardRequest) -> ScoringRequest:
    """The internal form of a validated request."""
    return ScoringRequest(
        groups=tuple(
            Group(scoring_context(item), tuple(reply_of(response) for response in item.responses))
            for item in request.items
        ),
        penalties=request.penalties,
        want_tokens="tokens" in request.include,
        want_text="text" in request.include,
        truncation=request.truncation,
        empty_response=request.empty_response or "error",
    )


def scoring_context(item: RewardItem) -> Context:
    """The context of a validated item."""
    if item.messages is not None:
        return Messages.of(item.messages, item.tools)
    assert item.prompt is not None  # the wire type takes exactly one of the two
    return Text(item.prompt, is_meant=bool(item.templated))
