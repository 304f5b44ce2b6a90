"""A turn of a conversation, and what is common to all wire types."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    ValidationError,
    model_validator,
)

MAX_VALUES = 65_536
"""Values in the tools of an item, or in the tool calls of a message."""

Role = Literal["system", "developer", "user", "assistant", "tool"]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Wire(BaseModel):
    """Base of all types: unknown fields are refused, and error messages do not repeat the input."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
"""Types of a part that is text, in OpenAI's chat and responses APIs."""

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
"""Names of what the assistant thought: of DeepSeek and vLLM, of newer vLLM, of gpt-oss."""

OTHER_FIELDS = ("name", "tool_calls", "tool_call_id", *REASONING_FIELDS)
"""Fields of a message beside its role and its content."""


class TextPart(Wire):
    """A piece of a message's text. The three types mean the same."""

    type: Literal["text", "input_text", "output_text"] = "text"
    text: str


def text_or_parts(value: object) -> object:
    """Refuses a content that is not text, by the type of the first such part."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise ValueError("must be a text, a list of text parts, or null")
    if not value:
        raise ValueError("must have at least one part")
    parts: list[TextPart] = []
    for number, part in enumerate(value):
        kind = part.get("type") if isinstance(part, dict) else getattr(part, "type", None)
        if kind not in TEXT_PARTS:
            named = f"a part of type {kind}" if _is_plain(kind) else "not a text part"
            raise ValueError(f"number {number} is {named}; the reward model reads text parts only")
        try:
            parts.append(TextPart.model_validate(part, strict=True))
        except ValidationError:
            raise ValueError(f"number {number} must have 'type' and 'text' only") from None
    return parts


def _is_plain(name: object) -> bool:
    """Whether an error message may repeat this name."""
    return isinstance(name, str) and len(name) <= 64 and name.isascii() and name.isidentifier()


def finite_objects(value: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """Refuses empty objects and numbers that JSON does not have."""
    if not all(value or ()):
        raise ValueError("an object in the list is empty")
    waiting: list[Any] = list(value or ())
    num_seen = 0
    while waiting:
        num_seen += 1
        if num_seen > MAX_VALUES:
            raise ValueError(f"has more than {MAX_VALUES} values")
        part = waiting.pop()
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, float) and not math.isfinite(part):
            raise ValueError("must be JSON with finite numbers")
    return value


Objects = Annotated[list[dict[str, Any]] | None, FailFast(), AfterValidator(finite_objects)]
"""JSON objects that the chat template reads as they are, in the order of their fields."""

Content = Annotated[str | list[TextPart] | None, BeforeValidator(text_or_parts)]


class Message(BaseModel):
    """One turn of a conversation, in OpenAI's form. The RM's own chat template reads every field.

    A field whose value is null, or a list without elements, counts as absent. Any other field is
    refused by its name: without it the text would be another one.
    """

    # `allow` and not `forbid`: OpenAI's own client writes fields like `refusal: null`.
    model_config = ConfigDict(
        extra="allow",
        strict=True,
        hide_input_in_errors=True,
        json_schema_extra={"additionalProperties": False},
    )

    role: Role
    content: Content = Field(
        None, description="Text or text parts. null or absent is allowed for the assistant only."
    )
    name: str | None = Field(None, description="Name of the speaker, or of the tool that answers.")
    tool_calls: Objects = Field(None, description="The assistant's calls, in OpenAI's form.")
    tool_call_id: str | None = Field(None, description="The call that a tool's message answers.")
    reasoning_content: str | None = Field(
        None, description="What the assistant thought before its content."
    )
    reasoning: str | None = Field(None, description="The same, by vLLM's newer name.")
    thinking: str | None = Field(None, description="The same, as gpt-oss's template names it.")

    @model_validator(mode="after")
    def known_and_complete(self) -> Message:
        for name, value in (self.__pydantic_extra__ or {}).items():
            if value is not None and value != []:
                raise ValueError(f"unknown field '{name if _is_plain(name) else '(name)'}'")
        if self.role != "assistant":
            if self.content is None:
                raise ValueError("'content' is required for this role")
            if self.tool_calls:
                raise ValueError("'tool_calls' belongs in an assistant's message")
        return self

    @property
    def text(self) -> str | tuple[str, ...] | None:
        """The content: a text, the texts of its parts, or None."""
        if isinstance(self.content, list):
            return tuple(part.text for part in self.content)
        return self.content

    @property
    def others(self) -> dict[str, Any]:
        """The fields beside `role` and `content` that say something, as they were sent."""
        values = {name: getattr(self, name) for name in OTHER_FIELDS}
        return {name: value for name, value in values.items() if value not in (None, [])}

    def as_sent(self) -> dict[str, Any]:
        """The message for another server: only the fields that say something."""
        content = self.content
        if isinstance(content, list):
            content = [part.model_dump() for part in content]  # type: ignore[misc]
        return {"role": self.role, "content": content, **self.others}
