"""Writes the text that the reward model reads: a context with one response in it, templated as the
RM was trained on it. `candor.text.conversation` makes tokens of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from candor.errors import InvalidMessages, InvalidRequest
from candor.item import Remark
from candor.text.marks import (
    FOREIGN,
    STAND_IN,
    USER_STAND_IN,
    Marks,
    ends_in_a_header,
    tokens_in,
)
from candor.text.request import ChatMessage, Context, Messages, OpenTurn, Reply, Text
from candor.text.template import ChatTemplate, Dropped
from candor.text.tokenise import Tokeniser

Ending = Literal["template", "end_token", "none"]
"""Where the text ends, and so where R is read. `template`: as the template ends it (what TRL trains
on). `end_token`: after the template's end token, without the white space behind it. `none`: at the
end of the response."""

ARGUMENTS_QUOTED = Remark(
    "arguments_quoted",
    "the model's chat template writes tool calls' 'arguments' that are a JSON text as a quoted "
    "string; send them as an object if the model was trained on objects",
)
AS_WRITTEN = Remark(
    "scored_as_written",
    "the model's chat template does not write this response as it is, so the response is scored as "
    "the policy wrote it, between the template's header and its end",
)
FOREIGN_MARKS = Remark(
    "foreign_template",
    "the prompt has marks of another model's chat template, which this model reads as plain text",
)


@dataclass(frozen=True, slots=True)
class Wording:
    """How one RM's texts are written and read.

    Attributes:
        marks: what the tokeniser and the template write around turns.
        max_length: the RM's window in tokens.
    """

    template: ChatTemplate
    tokeniser: Tokeniser
    marks: Marks
    ending: Ending
    max_length: int


@dataclass(frozen=True, slots=True)
class Written:
    """A text to tokenise.

    Attributes:
        start, end: the response's span in `text`, in characters.
        shift: the offset of that span in the response; None if the template rewrote the response.
        remarks: what the caller should know about it.
    """

    text: str
    start: int
    end: int
    shift: int | None
    remarks: tuple[Remark, ...] = ()


class Writer:
    """Writes the responses to one context. For one thread: what the texts share is done once."""

    def __init__(self, wording: Wording, context: Context) -> None:
        self._template = wording.template
        self._tokeniser = wording.tokeniser
        self._marks = wording.marks
        self._ending = wording.ending
        self._context = context
        self._around: tuple[str, str] | None = None
        self._dropped: Dropped | None = None
        """What the template leaves out of the context beside a response that is a text."""

    def write(self, response: Reply) -> Written:
        """The whole text, with the response's place in it. White space around the response is left
        to the template.

        Raises:
            InvalidMessages: the model has no chat template, or the template refuses the messages,
                leaves out a part of them, or rewrites the response.
            InvalidRequest: a text that should be templated is not.
        """
        context = self._context
        if isinstance(context, Messages):
            return self._apply_template(context, response)
        if not isinstance(response, str):
            raise InvalidRequest("a response that is a message needs a context of messages")
        if isinstance(context, OpenTurn):
            return self._close_turn(context.text, response)
        text, remarks = context.text, self._check_prompt(context)
        return Written(text + response, len(text), len(text) + len(response), 0, remarks)

    def _check_prompt(self, context: Text) -> tuple[Remark, ...]:
        """Refuses a prompt that holds no turn of the served template, unless it is meant so."""
        header, text = self._marks.header, context.text
        if context.is_meant:
            return ()
        if not header:
            marks = set(FOREIGN.findall(text)) - set(self._tokeniser.added)
            return (FOREIGN_MARKS,) if marks else ()
        if header.strip() not in text:
            other = ", but marks of another model's template" if ends_in_a_header(text) else ""
            raise InvalidRequest(
                "'prompt' holds no assistant turn of the model's chat template"
                f"{other}: send 'messages', to which the template is applied; or, if the text is "
                'meant as it is, send "templated": true beside it'
            )
        prefill = text[text.rindex(header.strip()) + len(header.strip()) :]
        if any(mark in prefill for mark in (self._marks.end, *self._marks.ends) if mark):
            raise InvalidRequest(
                "the last assistant turn of 'prompt' has ended, so a response would stand in no "
                "turn: end 'prompt' with the start of an assistant turn, or send 'messages'; or, "
                'if the text is meant as it is, send "templated": true beside it'
            )
        served = "".join(self._surroundings_of(Messages((ChatMessage("user", USER_STAND_IN),))))
        marks = {mark for mark in FOREIGN.findall(text) if mark not in served}
        return (FOREIGN_MARKS,) if marks - set(self._tokeniser.added) else ()

    def _close_turn(self, context: str, response: str) -> Written:
        """`_apply_template` for a context that is rendered up to the end of its last turn.

        A reply that the template refuses or rewrites, or that has several messages of the policy's
        own (reasoning in one channel, the answer in another), is scored as the policy wrote it.
        """
        user = Messages((ChatMessage("user", USER_STAND_IN),))
        marks = self._marks
        written = None
        own_channels = bool(marks.channel) and response.startswith(marks.channel)
        if not (own_channels and tokens_in(response, marks.header_tokens)):
            try:
                written = self._apply_template(user, response)
            except InvalidMessages:
                if not marks.header:
                    raise
        if written is None:
            tail = self._tail(self._surroundings_of(user)[1])
            start = len(context) + len(marks.header)
            text = context + marks.header + response
            return Written(text + tail, start, len(text), 0, (AS_WRITTEN,))
        user_end = written.text.index(USER_STAND_IN) + len(USER_STAND_IN)
        moved = len(context) - user_end
        return replace(
            written,
            text=context + written.text[user_end:],
            start=written.start + moved,
            end=written.end + moved,
        )

    def _apply_template(self, context: Messages, response: Reply) -> Written:
        """The conversation with the response as its last turn.

        The text around a response is found by rendering a stand-in, not by searching for the
        response: `i` also occurs in `<|im_end|>`, and a response may contain template text.
        """
        reply = ChatMessage("assistant", response) if isinstance(response, str) else response
        remarks = self._remarks(context, response)
        before, after = self._surroundings_of(context)
        try:
            text = self._template.render((*context.turns, reply), context.tools)
            start, end = self._place(context, response, text, before, after)
        except InvalidMessages:
            if response == "":
                return Written(before + self._tail(after), len(before), len(before), 0, remarks)
            if not (context.is_policys and isinstance(response, str)):
                raise
            before = self._template.render(context.turns, context.tools, add_generation_prompt=True)
            end = len(before) + len(response)
            text = before + response + self._tail(after)
            return Written(text, len(before), end, 0, (*remarks, AS_WRITTEN))
        if not isinstance(response, str):
            after = text[end:]
        shift = response.find(text[start:end]) if isinstance(response, str) else -1
        shift_or_none = shift if shift >= 0 else None
        return Written(text[:end] + self._tail(after), start, end, shift_or_none, remarks)

    def _place(
        self, context: Messages, response: Reply, text: str, before: str, after: str
    ) -> tuple[int, int]:
        """The response's span in the rendered text."""
        if not text.startswith(before):
            # The template writes other text before this response (templates of reasoning models
            # do, depending on its content). Then the response is all that follows the generation
            # prompt.
            before = self._template.render(context.turns, context.tools, add_generation_prompt=True)
        if not isinstance(response, str) and not text.endswith(after):
            # A turn that calls a tool may end in another token.
            tail = text.rstrip()
            tokens = (token for token in self._tokeniser.added if tail.endswith(token))
            after = text[len(tail) - len(next(tokens, "")) :]
        start, end = len(before), len(text) - len(after)
        if not (text.startswith(before) and text.endswith(after) and start <= end):
            raise InvalidMessages(
                "the model's chat template rewrites the conversation for this response; send the "
                "templated text as 'prompt'"
            )
        return start, end

    def _surroundings_of(self, context: Messages) -> tuple[str, str]:
        """The text before and after a response, as the template writes it around a stand-in."""
        if self._around is None:
            stand_in = ChatMessage("assistant", STAND_IN)
            around = self._template.render((*context.turns, stand_in), context.tools)
            before, found, after = around.rpartition(STAND_IN)
            if not found:
                raise InvalidMessages("the model's chat template drops the response")
            self._around = before, after
        return self._around

    def _tail(self, after: str) -> str:
        """The text behind the response, by `Ending`."""
        return {"template": after, "end_token": after.rstrip(), "none": ""}[self._ending]

    def _remarks(self, context: Messages, response: Reply) -> tuple[Remark, ...]:
        """What the template leaves out by design.

        Raises:
            InvalidMessages: it leaves out something without which another text would be judged.
        """
        turns = context.turns if isinstance(response, str) else (*context.turns, response)
        if self._dropped is None or not isinstance(response, str):
            dropped = self._template.dropped(turns, context.tools)
            self._dropped = dropped if isinstance(response, str) else self._dropped
        else:
            dropped = self._dropped
        if dropped.lost:
            raise InvalidMessages(
                f"the model's chat template leaves out {' and '.join(dropped.lost)}, so the reward "
                "would be that of another conversation; leave it out, or write it into a 'content'"
            )
        remarks = []
        if dropped.omitted:
            left_out = " and ".join(dropped.omitted)
            remarks.append(
                Remark("template_omits", f"the model's chat template leaves out {left_out}")
            )
        if dropped.quoted:
            remarks.append(ARGUMENTS_QUOTED)
        return tuple(remarks)
