"""What stands before a response: messages, templated text, or templated text with an open turn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a conversation: its role and its text."""

    role: str
    content: str


class MessageLike(Protocol):
    """A message of the wire, of Candor's own route or of a trainer's."""

    @property
    def role(self) -> str: ...

    @property
    def content(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Messages:
    """A conversation: the RM's chat template is applied to it, with the response as last turn."""

    turns: tuple[ChatMessage, ...]

    @classmethod
    def of(cls, messages: Iterable[MessageLike]) -> Messages:
        """The conversation that messages of the wire hold."""
        return cls(tuple(ChatMessage(message.role, message.content) for message in messages))


@dataclass(frozen=True, slots=True)
class Text:
    """Text that has the chat template already. The response follows it as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """Templated text up to the end of the last turn before the response's. The chat template writes
    what follows, as if that turn were a user's."""

    text: str


Context = Messages | Text | OpenTurn


@dataclass(frozen=True, slots=True)
class Group:
    """A context and the responses to it."""

    context: Context
    responses: tuple[str, ...]
