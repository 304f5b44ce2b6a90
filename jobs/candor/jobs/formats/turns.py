"""Conversations and responses as data sets write them, as messages and texts.

Everything here raises `UnreadableRow` with a reason in words; nothing is guessed. The one choice
that a form leaves open is what a prompt is that is a text: `context_of_text` says how it is read.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Sequence
from typing import Any

from candor.probes import jsonl

Row = dict[str, Any]
Messages = list[dict[str, Any]]

ROLES = {
    "human": "user", "user": "user", "prompter": "user",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "bing": "assistant", "bard": "assistant", "model": "assistant",
    "system": "system", "tool": "tool", "observation": "tool",
}  # fmt: skip
"""ShareGPT's names of speakers, and those of its relatives."""

TEMPLATED = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|\[/?INST\]|<start_of_turn>|<\uff5c\w+\uff5c>"
    r"|(?:^|\n)\s*(?:ASSISTANT|### (?:Response|Assistant)):\s*$"
)
"""Marks of a chat template in a text: it has been applied already."""

TRANSCRIPT = re.compile(r"(?:^|\n\n)(Human|Assistant):")
"""The turns of Anthropic's HH: a blank line, the speaker, a colon."""

_ENCODED = re.compile(r"\s*\[\s*\{\s*['\"](?:role|from)['\"]\s*:")


class UnreadableRow(ValueError):
    """A row that is not what its form says; the message names the field."""


def decoded(value: Any, *, always: bool = False) -> Any:
    """The list that a text encodes, as tables of texts hold conversations: in JSON, or as Python
    prints it (pandas does). Any other value as it is.

    Args:
        always: whether a text under this field can only be an encoded list or object.
    """
    if not isinstance(value, str):
        return value
    if not (always and value.lstrip().startswith(("[", "{"))) and not _ENCODED.match(value):
        return value
    try:
        return jsonl.parse(value.encode())
    except ValueError:
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in the text, which is no code of ours
            return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def messages_of(value: Any, field: str) -> Messages:
    """Messages of a list of turns: OpenAI's (`role`, `content`) or ShareGPT's (`from`, `value`).

    Fields that are null are left out.
    """
    value = decoded(value, always=True)
    if not isinstance(value, list) or not value:
        raise UnreadableRow(f"'{field}' is not a list of messages")
    return [_message(turn, f"{field}[{number}]") for number, turn in enumerate(value)]


def _message(turn: Any, where: str) -> dict[str, Any]:
    if not isinstance(turn, dict):
        raise UnreadableRow(f"{where} is not an object with 'role' and 'content'")
    message: Row = {name: part for name, part in turn.items() if part is not None}
    if "role" in message:
        return message
    speaker, text = message.get("from"), message.get("value")
    if not isinstance(speaker, str) or not isinstance(text, str):
        raise UnreadableRow(f"{where} has neither 'role' and 'content' nor 'from' and 'value'")
    if speaker.lower() not in ROLES:
        raise UnreadableRow(f"{where}: the speaker {speaker!r} is none of {', '.join(ROLES)}")
    return {"role": ROLES[speaker.lower()], "content": text}


def is_transcript(text: Any) -> bool:
    """Whether a text is a conversation in the form of Anthropic's HH."""
    if not isinstance(text, str):
        return False
    first = TRANSCRIPT.search(text)
    return first is not None and not text[: first.start()].strip() and first[1] == "Human"


def transcript(text: str) -> Messages:
    """The messages of a text in the form of Anthropic's HH; an open last turn is left out."""
    parts = TRANSCRIPT.split(text)
    turns = [
        {"role": "user" if speaker == "Human" else "assistant", "content": said.strip()}
        for speaker, said in zip(parts[1::2], parts[2::2], strict=True)
    ]
    if turns and turns[-1]["role"] == "assistant" and not turns[-1]["content"]:
        turns.pop()
    return turns


def context_of_text(text: str, templated: bool = False) -> Row:
    """A prompt that is a text, as a context.

    | the text | is read as |
    | --- | --- |
    | is said to be templated, or holds marks of a chat template | `prompt`: it is used as it is |
    | is a transcript, `Human: ... Assistant: ...` | its messages |
    | any other | one message of the user |

    The server refuses a `prompt` in another template than the reward model's.
    """
    if not text.strip():
        raise UnreadableRow("'prompt' is empty")
    if templated or TEMPLATED.search(text):
        return {"prompt": text}
    if is_transcript(text):
        return {"messages": transcript(text)}
    return {"messages": [{"role": "user", "content": text}]}


def text_of(value: Any, field: str) -> str:
    """The text of one response: a text, an assistant's message, or a list with one message."""
    value = decoded(value)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        raise UnreadableRow(
            f"'{field}' has {len(value)} messages; a response is one message of the assistant"
        )
    if not isinstance(value, dict):
        raise UnreadableRow(f"'{field}' is neither a text nor a message")
    for name in ("text", "response", "answer"):
        if isinstance(value.get(name), str):
            return str(value[name])
    message = _message(value, field)
    if message["role"] != "assistant":
        raise UnreadableRow(f"'{field}' is of role {message['role']!r}, not the assistant's")
    if message.get("tool_calls"):
        raise UnreadableRow(f"'{field}' has tool calls; rows take responses that are texts")
    return _joined(message.get("content"), field)


def _joined(content: Any, field: str) -> str:
    """A content: a text, or the texts of its parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise UnreadableRow(f"'{field}' has no content that is a text")
    for part in content:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            raise UnreadableRow(f"'{field}' has a part that is not a text")
    return "".join(part["text"] for part in content)


def response_of(value: Any, field: str, **others: Any) -> Row:
    """One response in Candor's form, {"text": ...}; an object with a text keeps its fields."""
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        return {**value, **others}
    return {"text": text_of(value, field), **others}


def split_last(messages: Messages, field: str) -> tuple[Messages, str]:
    """A whole conversation as its context and the response that ends it."""
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise UnreadableRow(f"'{field}' does not end with a reply of the assistant to a message")
    return messages[:-1], text_of(messages[-1], f"{field}[{len(messages) - 1}]")


def same_context(contexts: Sequence[Messages], fields: str) -> Messages:
    """The context of several conversations that differ in their last message."""
    if any(context != contexts[0] for context in contexts):
        raise UnreadableRow(f"{fields} differ before their last message")
    return contexts[0]
