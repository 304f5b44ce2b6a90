"""Renders a context and a response into an `Item`: template, response span, token ids, truncation.

A token may cross the border between context and response, so the ids are always those of the whole
text (`candor.text.tokenise`). The response's tokens are those whose characters overlap it. Every
invalid text is refused here, before the queue, and a text that is surely too long is refused before
it is tokenised. Each probe chooses the tokens it pools over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal, cast

from transformers import PreTrainedTokenizerBase

from candor.errors import EmptyResponse, InvalidMessages, InvalidRequest, TooLong
from candor.item import Item, Remark, RenderedText
from candor.text.marks import (
    FOREIGN,
    STAND_IN,
    USER_STAND_IN,
    Marks,
    ends_in_a_header,
    find_marks,
    tokens_in,
)
from candor.text.request import (
    ChatMessage,
    Context,
    Empty,
    Messages,
    OpenTurn,
    Reply,
    Text,
    Truncation,
    num_json_chars,
)
from candor.text.template import ChatTemplate, Dropped
from candor.text.tokenise import Ids, SharedStart, Spans, Tokeniser

Ending = Literal["template", "end_token", "none"]
"""Where the text ends, and so where R is read. `template`: as the template ends it (what TRL trains
on). `end_token`: after the template's end token, without the white space behind it. `none`: at the
end of the response."""

CHARS_PER_TOKEN = 32
"""Most characters per token of the RM's window. A longer text is refused, or cut, before anything
else is done with it. English has about 4 per token, and an endless run of spaces 64."""

COUNTED_FROM = 4
"""Characters per token of the window from which a text's tokens are counted in pieces first, so
that a text over the window costs no more than one that fills it."""

_SLACK = 256
"""Tokens that are kept beyond the window where characters are cut, so that no token of the window
is next to the cut."""

CUT_CONTEXT = (
    "have the oldest context cut: truncation='left' on /v1/rewards, candor serve "
    "--trainer-truncation left on the trainers' routes"
)
"""The way out for a text over the window."""

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
EMPTY_TURN = Remark(
    "empty_response",
    "the response has no token: R is that of the empty turn, and the penalty is 0",
)
FOREIGN_MARKS = Remark(
    "foreign_template",
    "the prompt has marks of another model's chat template, which this model reads as plain text",
)


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


class Renderer:
    """Renders and tokenises for one RM. Several threads may use it at once.

    Args:
        tokenizer: a fast tokeniser (offsets are needed), with the RM's chat template if it has one.
        max_length: the RM's window in tokens.
        ending: see `Ending`.
        template_date: see `ChatTemplate`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int,
        ending: Ending = "template",
        template_date: date | None = None,
    ) -> None:
        self.max_length = max_length
        self.ending = ending
        self.template = ChatTemplate(tokenizer, template_date=template_date)
        self.tokeniser = Tokeniser(tokenizer)
        self._tokenizer = tokenizer
        found = find_marks(self.template, tokenizer, self.tokeniser.added)
        self._marks = replace(found, adds_bos=self.tokeniser.adds_bos)

    def encode(
        self,
        context: Context,
        response: Reply,
        *,
        truncation: Truncation = "error",
        want_tokens: bool = False,
        empty: Empty = "error",
    ) -> Item:
        """Renders one (context, response) pair; see `Conversation.encode`."""
        conversation = Conversation(
            self, context, truncation=truncation, want_tokens=want_tokens, empty=empty
        )
        return conversation.encode(response)

    def marks(self) -> Marks:
        """The marks that the tokeniser and the template write around turns."""
        return self._marks

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included.

        Raises:
            InvalidRequest: the tokeniser has no such id.
        """
        if not all(0 <= token_id < len(self._tokenizer) for token_id in token_ids):
            raise InvalidRequest(f"token ids must be from 0 to {len(self._tokenizer) - 1}")
        text = self._tokenizer.decode(
            list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return cast(str, text)


class Conversation:
    """One context, whose responses are rendered and tokenised one after the other. What they share
    is done once. For one thread.

    Args:
        truncation: for a text longer than the window, `error` refuses it and `left` drops the
            oldest context tokens. `left` keeps the BOS, the response and the template's ending.
        want_tokens: also give each response token's character span.
        want_text: also give the text, and every token's span in it.
        empty: see `Empty`.
    """

    def __init__(
        self,
        renderer: Renderer,
        context: Context,
        *,
        truncation: Truncation = "error",
        want_tokens: bool = False,
        want_text: bool = False,
        empty: Empty = "error",
    ) -> None:
        self._template = renderer.template
        self._tokeniser = renderer.tokeniser
        self._marks = renderer.marks()
        self._max_length = renderer.max_length
        self._ending = renderer.ending
        self._context = context
        self._truncation = truncation
        self._want_tokens = want_tokens
        self._want_text = want_text
        self._empty = empty
        self._num_other_chars = (
            sum(num_json_chars(turn.others) for turn in context.turns if turn.others)
            + (num_json_chars(context.tools) if context.tools else 0)
            if isinstance(context, Messages)
            else 0
        )
        self._around: tuple[str, str] | None = None
        self._dropped: Dropped | None = None
        """What the template leaves out of the context beside a response that is a text."""
        self._start: tuple[str, int, SharedStart] | None = None
        """A start that responses share, the characters cut from it, and its tokens."""

    def encode(self, response: Reply) -> Item:
        """The item of one response. White space around it is left to the template.

        Raises:
            EmptyResponse: no response token is left to read a probe at.
            InvalidMessages: the model has no chat template, or the template refuses the messages,
                leaves out a part of them, or rewrites the response.
            InvalidRequest: a text that should be templated is not.
            TooLong: the text is longer than the window.
        """
        if not response and self._empty == "error":
            raise EmptyResponse("the response is empty; there is nothing to score")
        self._refuse_long_parts(response)
        written = self._written(response)
        cut, shared = self._fit(written)
        start, end = written.start - cut, written.end - cut
        text = written.text
        if cut:
            bos = self._written_bos(text)
            text = bos + text[len(bos) + cut :]
        ids, spans = shared.encode(text)
        inside = [i for i, (low, high) in enumerate(spans) if low < end and high > start]
        if start == end or not inside:
            return self._empty_item(written, ids, spans, start, cut)
        first, last = inside[0], inside[-1] + 1
        offsets = self._offsets(written.shift, spans[first:last], start, end)
        ids, dropped = self._drop_oldest(ids, first)
        return Item(
            token_ids=tuple(ids),
            response_start=first - dropped,
            response_end=last - dropped,
            offsets=offsets,
            truncated=cut > 0 or dropped > 0,
            want_tokens=self._want_tokens,
            rendered=self._rendered(written, ids, spans, cut),
            remarks=written.remarks,
        )

    def _empty_item(self, written: Written, ids: Ids, spans: Spans, start: int, cut: int) -> Item:
        """The item of an empty turn. Its span is the last token, whose readings nobody uses."""
        if self._empty == "error" or not ids:
            raise EmptyResponse(
                "the response has no token: it is empty, or white space that the template strips"
            )
        first = sum(high <= start for _, high in spans)
        ids, dropped = self._drop_oldest(ids, min(first, len(ids) - 1))
        return Item(
            token_ids=tuple(ids),
            response_start=len(ids) - 1,
            response_end=len(ids),
            truncated=cut > 0 or dropped > 0,
            rendered=self._rendered(written, ids, spans, cut),
            remarks=(*written.remarks, EMPTY_TURN),
            is_empty=True,
        )

    def _rendered(self, written: Written, ids: Ids, spans: Spans, cut: int) -> RenderedText | None:
        """The text behind `ids`, where it is wanted.

        Args:
            ids: what is left after the oldest tokens were dropped.
            spans: of all tokens, in the text that `cut` characters were cut from.
        """
        if not self._want_text:
            return None
        head = len(self._written_bos(written.text))
        num_dropped = len(spans) - len(ids)
        keep = 1 if num_dropped and ids[0] == self._tokeniser.bos_id else 0
        kept = [*spans[:keep], *spans[keep + num_dropped :]]
        offsets = tuple(
            (low, high) if high <= head else (low + cut, high + cut) for low, high in kept
        )
        first = next((low for low, high in offsets if high > max(low, head)), head)
        dropped = (head, first) if cut or num_dropped else None
        return RenderedText(written.text, written.start, written.end, dropped, offsets)

    def _offsets(
        self, shift: int | None, spans: Spans, start: int, end: int
    ) -> tuple[tuple[int, int], ...]:
        """Each token's span in the response."""
        if not self._want_tokens:
            return ()
        if shift is None:
            raise InvalidMessages(
                "the chat template rewrites this response, so token spans cannot be given; "
                "leave out include=['tokens'] or send the templated text as 'prompt'"
            )
        return tuple(
            (max(low, start) - start + shift, min(high, end) - start + shift) for low, high in spans
        )

    def _written(self, response: Reply) -> Written:
        """The whole text, with the response's place in it."""
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

    def _written_bos(self, text: str) -> str:
        return self._marks.bos if text.startswith(self._marks.bos) else ""

    def _refuse_long_parts(self, response: Reply) -> None:
        """Refuses a text that is too long before the template is applied to it."""
        context, limit = self._context, CHARS_PER_TOKEN * self._max_length
        length = len(response) if isinstance(response, str) else response.num_chars
        if isinstance(context, Messages):
            if len(context.turns) > self._max_length:
                raise TooLong(
                    f"{len(context.turns)} messages, and the limit is {self._max_length}, one for "
                    "each token of the model's window"
                )
            length += self._num_other_chars
        if self._truncation == "error":
            length += context.num_text_chars
        if length > limit:
            raise TooLong(
                f"the text has {length} characters and the limit is {limit}, "
                f"{CHARS_PER_TOKEN} for each token of the model's window; tools and tool calls "
                "count as JSON"
            )

    def _fit(self, written: Written) -> tuple[int, SharedStart]:
        """Number of characters to cut from the start of the context, and the tokens of what
        responses share.

        Raises:
            TooLong: the text is surely over the window, or its response is.
        """
        text, many = written.text, COUNTED_FROM * self._max_length
        start = text[: written.start]
        if self._start is None or self._start[0] != start:
            cut = 0
            if self._truncation == "left" and len(start) > many:
                cut = self._excess_characters(start)
            bos = self._written_bos(text)
            shared = SharedStart(self._tokeniser, bos + start[len(bos) + cut :] if cut else start)
            self._start = start, cut, shared
        kept = text[written.start :] if self._truncation == "left" else text
        if len(kept) > many and self._tokeniser.exceeds(kept, self._max_length):
            what = "the response alone" if self._truncation == "left" else "context and response"
            raise TooLong(
                f"{what} has more than {self._max_length} tokens and the model takes "
                f"{self._max_length}; shorten it"
                + (f" or {CUT_CONTEXT}" if self._truncation == "error" else "")
            )
        return self._start[1], self._start[2]

    def _excess_characters(self, start: str) -> int:
        """Characters at the start of a context that are surely further back than the window."""
        kept = self._tokeniser.tail(start, self._max_length + _SLACK)
        return max(0, len(start) - kept - len(self._written_bos(start)))

    def _drop_oldest(self, ids: Ids, first: int) -> tuple[Ids, int]:
        """The ids that fit the window, and the number of context tokens that are dropped. `first`
        is the index of the first response token.

        Raises:
            TooLong: `truncation` is `error`, or the response alone is longer than the window.
        """
        excess = len(ids) - self._max_length
        if excess <= 0:
            return ids, 0
        if self._truncation == "error":
            raise TooLong(
                f"context and response are {len(ids)} tokens and the model takes "
                f"{self._max_length}; shorten them or {CUT_CONTEXT}"
            )
        keep = 1 if first and ids[0] == self._tokeniser.bos_id else 0
        if excess > first - keep:
            raise TooLong(
                f"the response alone is {len(ids) - first + keep} tokens and the model takes "
                f"{self._max_length}; a response is never cut"
            )
        return ids[:keep] + ids[keep + excess :], excess
