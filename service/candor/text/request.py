"""The internal request type: `ScoringRequest`, made from a body's bytes or from a trainer's call.

A request holds groups. A group is a context and the responses to it. A context is messages,
templated text, or templated text with an open turn. Code behind the routes uses these types and
never the wire types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pydantic import ValidationError

from candor.client.schema import MAX_ITEMS, PenaltyOverride, RewardItem, RewardRequest
from candor.errors import InvalidRequest
from candor.invalid import first_fault_as_error

Truncation = Literal["error", "left"]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a conversation: its role and its text."""

    role: str
    content: str


class MessageLike(Protocol):
    """A message in a request body, of Candor's own route or of a trainer's route."""

    @property
    def role(self) -> str: ...

    @property
    def content(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Messages:
    """A conversation. The RM's chat template is applied to it, with the response as last turn."""

    turns: tuple[ChatMessage, ...]

    @classmethod
    def of(cls, messages: Iterable[MessageLike]) -> Messages:
        """The conversation in a body's messages."""
        return cls(tuple(ChatMessage(message.role, message.content) for message in messages))


@dataclass(frozen=True, slots=True)
class Text:
    """Text with the chat template already applied. The response is appended unchanged."""

    text: str


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """Templated text that ends where the content of the last turn before the response ends. The
    chat template writes the rest, as if that turn were a user's."""

    text: str


Context = Messages | Text | OpenTurn


@dataclass(frozen=True, slots=True)
class Group:
    """A context and the responses to it."""

    context: Context
    responses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """Groups to score together: either all of them are answered or none.

    Attributes:
        groups: at least one; each has at least one response.
        penalties: overrides of the served penalties, by probe name.
        want_tokens: also answer the probe logits of each response token.
        truncation: for a text longer than the RM's window. `error` refuses it, `left` drops its
            oldest context tokens.
    """

    groups: tuple[Group, ...]
    penalties: Mapping[str, PenaltyOverride] = field(default_factory=dict)
    want_tokens: bool = False
    truncation: Truncation = "error"

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
    try:
        return from_wire(RewardRequest.model_validate_json(body, strict=True))
    except ValidationError as error:
        fault = first_fault_as_error(error)
    raise fault


def from_wire(request: RewardRequest) -> ScoringRequest:
    """The internal form of a validated request."""
    return ScoringRequest(
        groups=tuple(Group(_context(item), tuple(item.responses)) for item in request.items),
        penalties=request.penalties,
        want_tokens="tokens" in request.include,
        truncation=request.truncation,
    )


def _context(item: RewardItem) -> Context:
    if item.messages is not None:
        return Messages.of(item.messages)
    assert item.prompt is not None  # the wire type takes exactly one of the two
    return Text(item.prompt)
