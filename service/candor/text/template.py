"""The served chat template: how it is called, and what of a conversation it leaves out.

A template is a program. It may ignore a field, read only some roles, write `None` for a content
that is null, or read the clock. Whatever it does, the text must be the one that transformers'
`apply_chat_template` writes, and nobody may get the number of a text that silently lacks what was
sent. So each fact is found by rendering, never by searching the template's source.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from candor.client.schema import REASONING_FIELDS
from candor.errors import InvalidMessages
from candor.text.request import ChatMessage

Turns = Sequence[ChatMessage]
Tools = Sequence[Mapping[str, Any]]

_ROLES = ("system", "developer", "user", "assistant", "tool")
_WORD = "CandorTextGoesHere"
_ARGUMENTS_TEXT = '{"some": "argument"}'
_MAX_SHAPE, _MAX_SHAPES = 16_384, 512
"""Most characters of a conversation's shape that is remembered, and most shapes."""

NUM_SAMPLINGS = 8
"""How often the samples are rendered: a template that draws one of two words stays the same in all
of them in one of a hundred million starts."""

OMITTED = {
    "name": "'name'",
    **{name: f"'{name}'" for name in REASONING_FIELDS},
    "content beside tool_calls": "the 'content' beside 'tool_calls'",
    "system": "the system's message",
    "developer": "the developer's message",
}
"""What templates leave out by design, in words. See `Dropped`."""

LOST = {
    "tools": "'tools'",
    "tool_calls": "'tool_calls'",
    "user": "the 'content' of a user's message",
    "assistant": "the 'content' of an assistant's message",
    "tool": "the 'content' of a tool's message",
}
"""What no template may leave out, in words."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a template leaves out of a conversation, in words that name the field.

    Attributes:
        lost: what happened in the conversation: tools, tool calls, the text of a user's, an
            assistant's or a tool's message. Without it another conversation would be judged.
        omitted: what templates leave out by design: a speaker's name, earlier reasoning, text
            beside tool calls, a system's message.
        quoted: whether it writes arguments that are a JSON text as a string in quotes.
    """

    lost: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()
    quoted: bool = False


class ChatTemplate:
    """The chat template of one tokeniser. Several threads may render at once; `reads_clock` moves
    the clock for a moment and belongs before them.

    Args:
        tokenizer: with the template, or without one; then every rendering is refused.
        template_date: the date of the template's clock, which stands at midnight. Default: the date
            of this call. So equal messages give equal texts as long as the process lives.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, template_date: date | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self.date = template_date or date.today()
        self._clock = datetime.combine(self.date, time())
        self._reads_parts = frozenset(role for role in _ROLES if self._can_read_parts(role))
        self._dropped_by_shape: dict[str, Dropped] = {}

    def render(
        self, turns: Turns, tools: Tools = (), *, add_generation_prompt: bool = False
    ) -> str:
        """The conversation as the template writes it.

        Content in parts is handed over in parts where the template reads them from this role, else
        as one text. A content that is null is handed over as null, unless the template fails on it
        or writes the word None; then it is the empty text.

        Raises:
            InvalidMessages: the model has no template, or the template refuses the messages.
        """
        messages = [self._message(turn) for turn in turns]
        options = {"add_generation_prompt": add_generation_prompt}
        if all(message["content"] is not None for message in messages):
            return self._apply(messages, tools, **options)
        blank = [message | {"content": message["content"] or ""} for message in messages]
        try:
            text = self._apply(messages, tools, **options)
        except InvalidMessages:
            return self._apply(blank, tools, **options)
        try:
            without = self._apply(blank, tools, **options)
        except InvalidMessages:
            return text
        return without if text.count("None") > without.count("None") else text

    def reads_clock(self) -> bool:
        """Whether the text depends on the date or the time.

        Conversations of several shapes are rendered at two times that have no digit or name in
        common. A template may ask for the time in a branch that none of them takes, so one that
        names the function counts as reading the clock too.
        """
        if "strftime_now" in (self._tokenizer.chat_template or ""):
            return True
        kept = self._clock
        self._clock = datetime(2026, 11, 30, 16, 58, 47)
        now = self._samples()
        self._clock = datetime(1999, 2, 1, 3, 0, 1)
        then = self._samples()
        self._clock = kept
        return now != then

    def is_stable(self) -> bool:
        """Whether equal conversations give equal texts (a template may draw at random)."""
        return len({tuple(self._samples()) for _ in range(NUM_SAMPLINGS)}) == 1

    def _samples(self) -> list[str | None]:
        """Conversations of several shapes, rendered; None for a shape that is refused."""
        asked = ChatMessage("user", "q")
        call = {"id": "000000000", "type": "function", "function": {"name": "f", "arguments": {}}}
        called = [asked, ChatMessage("assistant", "", {"tool_calls": [call]})]
        tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}
        texts: list[str | None] = []
        for turns, tools in (
            ([asked, ChatMessage("assistant", "r")], ()),
            ([ChatMessage("system", "s"), asked, ChatMessage("assistant", "r")], ()),
            ([asked, ChatMessage("assistant", "r")], (tool,)),
            ([*called, ChatMessage("tool", "t", {"tool_call_id": "000000000"})], (tool,)),
        ):
            try:
                texts.append(self.render(turns, tools))
            except InvalidMessages:
                texts.append(None)
        return texts

    def dropped(self, turns: Turns, tools: Tools = ()) -> Dropped:
        """What the template leaves out of the conversation.

        The conversation is rendered with a word of its own in place of each text, name and call.
        The template left out whatever word is missing. The outcome is remembered for all
        conversations of the same shape.

        Raises:
            InvalidMessages: as `render`.
        """
        shape, shape_tools, words = _in_words(turns, tools)
        key = json.dumps([[[turn.role, turn.content, turn.others] for turn in shape], shape_tools])
        known = self._dropped_by_shape.get(key)  # one look: another thread may clear the dict
        if known is not None:
            return known
        try:
            text = self.render(shape, shape_tools)
        except InvalidMessages:  # it reads what the words replace
            missing, text = self._without_effect(turns, tools), ""
        else:
            missing = {field for word, field in words.items() if word not in text}
        found = Dropped(
            tuple(LOST[field] for field in sorted(missing & LOST.keys())),
            tuple(OMITTED[field] for field in sorted(missing & OMITTED.keys())),
            quoted=json.dumps(_ARGUMENTS_TEXT) in text,
        )
        if len(key) <= _MAX_SHAPE:
            if len(self._dropped_by_shape) >= _MAX_SHAPES:
                self._dropped_by_shape.clear()
            self._dropped_by_shape[key] = found
        return found

    def _without_effect(self, turns: Turns, tools: Tools) -> set[str]:
        """The fields without which the template writes the same text."""
        text = self.render(turns, tools)
        fields = {field for turn in turns for field in turn.others} - {"tool_call_id"}
        variants: dict[str, tuple[Turns, Tools]] = {
            field: ([_leave_out(turn, field) for turn in turns], tools) for field in fields
        }
        if tools:
            variants["tools"] = (turns, ())
        missing = set()
        for field, (other_turns, other_tools) in variants.items():
            try:
                if self.render(other_turns, other_tools) == text:
                    missing.add(field)
            except InvalidMessages:
                continue
        return missing

    def _message(self, turn: ChatMessage) -> dict[str, Any]:
        content: Any = turn.content
        if isinstance(content, tuple):
            if turn.role in self._reads_parts:
                content = [{"type": "text", "text": part} for part in content]
            else:
                content = "".join(content)
        return {"role": turn.role, "content": content, **turn.others}

    def _can_read_parts(self, role: str) -> bool:
        """Whether the template writes a part's text just as it writes a text."""
        before = [] if role in ("system", "developer", "user") else [_user("a")]
        after = [_user("a")] if role in ("system", "developer") else []
        as_text = [*before, {"role": role, "content": _WORD}, *after]
        as_part = [*before, {"role": role, "content": [{"type": "text", "text": _WORD}]}, *after]
        try:
            return _WORD in (text := self._apply(as_text)) and self._apply(as_part) == text
        except InvalidMessages:
            return False

    def _apply(
        self,
        messages: list[dict[str, Any]],
        tools: Tools = (),
        *,
        add_generation_prompt: bool = False,
    ) -> str:
        if self._tokenizer.chat_template is None:
            raise InvalidMessages(
                "this model has no chat template; send the templated text as 'prompt'"
            )
        try:
            text = self._tokenizer.apply_chat_template(
                messages,
                tools=[dict(tool) for tool in tools] or None,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                strftime_now=self._clock.strftime,  # hides transformers' own, which runs on
            )
        except Exception as error:
            # A template is a program and may raise anything. Its message may quote the input, so it
            # is not repeated.
            raise InvalidMessages(
                "the model's chat template refuses these messages; check the roles, their order "
                "and that the model takes a system turn"
            ) from error
        return cast(str, text)


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _leave_out(turn: ChatMessage, field: str) -> ChatMessage:
    return replace(turn, others={name: v for name, v in turn.others.items() if name != field})


def _in_words(turns: Turns, tools: Tools) -> tuple[Turns, list[Any], dict[str, str]]:
    """The shape of a conversation: the same fields, with a word of its own in each. Also the field
    of each word.

    Ids have nine letters or digits, because Mistral's templates ask for that.
    """
    words: dict[str, str] = {}
    ids: dict[Any, str] = {}

    def word(field: str) -> str:
        words[made := f"CandorWord{len(words)}Here"] = field
        return made

    def an_id(value: Any) -> str:
        return ids.setdefault(value, f"{len(ids):09d}")

    shape = []
    for turn in turns:
        content = turn.content
        if content is not None and any(content):
            kind = "content beside tool_calls" if "tool_calls" in turn.others else turn.role
            content = word(kind) if isinstance(content, str) else (word(kind),)
        others: dict[str, Any] = {}
        for name, value in turn.others.items():
            if name == "tool_calls":
                others[name] = [_call_in_words(call, word, an_id) for call in value]
            else:
                others[name] = an_id(value) if name == "tool_call_id" else word(name)
        shape.append(ChatMessage(turn.role, content, others))
    return shape, [_tool_in_words(tool, word) for tool in tools], words


def _call_in_words(
    call: Mapping[str, Any], word: Callable[[str], str], an_id: Callable[[Any], str]
) -> dict[str, Any]:
    """A tool call with a word for its name, and arguments of the same type."""
    inner = call.get("function")
    function = dict(inner) if isinstance(inner, dict) else dict(call)
    is_text = isinstance(function.get("arguments"), str)
    function |= {
        "name": word("tool_calls"),
        "arguments": _ARGUMENTS_TEXT if is_text else json.loads(_ARGUMENTS_TEXT),
    }
    made = dict(call) | {"function": function} if isinstance(inner, dict) else function
    return made | ({"id": an_id(str(call["id"]))} if "id" in call else {})


def _tool_in_words(tool: Mapping[str, Any], word: Callable[[str], str]) -> dict[str, Any]:
    """A tool with a word for its name."""
    inner = tool.get("function")
    if isinstance(inner, dict):
        return {**tool, "function": {**inner, "name": word("tools")}}
    return {**tool, "name": word("tools")}
