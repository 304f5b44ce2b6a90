"""Renders a context and a response into an `Item`: template, response span, token ids, truncation.

The text is tokenised once, as a whole, because a token may cross the border between context and
response. The response's tokens are those whose characters overlap it. Every invalid text is refused
here, before the queue. The schema bounds the number of items per request, and each probe chooses
the tokens it pools over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import takewhile
from typing import Literal, cast

from transformers import PreTrainedTokenizerBase

from candor.errors import EmptyResponse, InvalidMessages, InvalidRequest, TooLong
from candor.item import Item, Remark
from candor.text.request import ChatMessage, Context, Messages, OpenTurn, Reply
from candor.text.template import ChatTemplate
from candor.text.turns import Marks

Ending = Literal["template", "end_token", "none"]
"""Where the text ends, and so where R is read. `template`: as the template ends it (what TRL trains
on). `end_token`: after the template's end token, without the white space behind it. `none`: at the
end of the response."""

CHARS_PER_TOKEN = 250
"""Most characters per token of the RM's window. A longer text is refused before it is tokenised,
because tokenising takes seconds per million characters. Text Generation Inference uses the same
bound. A tighter bound would refuse long runs of spaces, which are a single token."""

# Replaces the response, to find out what the template writes around it. Letters only, so that a
# template that strips white space leaves it unchanged.
_STAND_IN = "CandorResponseGoesHere"
_USER_STAND_IN = "CandorQuestionGoesHere"


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


ARGUMENTS_QUOTED = Remark(
    "arguments_quoted",
    "the model's chat template writes tool calls' 'arguments' that are a JSON text as a quoted "
    "string; send them as an object if the model was trained on objects",
)


class Renderer:
    """Renders and tokenises for one RM. Not thread-safe: use it from one thread at a time.

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
        self._tokenizer = tokenizer
        self._template = ChatTemplate(tokenizer, template_date=template_date)
        self._max_length = max_length
        self._max_chars = CHARS_PER_TOKEN * max_length
        self._ending = ending
        self._bos_id: int | None = tokenizer.bos_token_id
        self._bos_text: str = tokenizer.bos_token or ""
        first = tokenizer("a").input_ids[:1]
        self._adds_bos = self._bos_id is not None and first == [self._bos_id]

    def encode(
        self,
        context: Context,
        response: Reply,
        *,
        truncation: Literal["error", "left"] = "error",
        want_tokens: bool = False,
    ) -> Item:
        """Renders one (context, response) pair.

        Args:
            context: the conversation or text before the response.
            response: the text to score. White space around it is left to the template.
            truncation: for a text longer than the window, `error` refuses it and `left` drops the
                oldest context tokens. `left` keeps the BOS, the response and the template's ending.
            want_tokens: also give each response token's character span.

        Raises:
            EmptyResponse: no response token is left to read a probe at.
            InvalidMessages: the model has no chat template, or the template refuses the messages or
                rewrites the response.
            TooLong: the text is longer than the window (or has more than `CHARS_PER_TOKEN`
                characters per token of the window).
        """
        if not response:
            raise EmptyResponse("the response is empty; there is nothing to score")
        written = self._written(context, response)
        text, start, end, shift = written.text, written.start, written.end, written.shift
        truncated = len(text) > self._max_chars
        if truncated:
            text, start, end = self._cut_characters(text, start, end, truncation)
        ids, spans = self._tokenize(text)
        inside = [i for i, (low, high) in enumerate(spans) if low < end and high > start]
        if start == end or not inside:
            raise EmptyResponse(
                "the response has no token: it is only white space, which the template strips"
            )
        first, last = inside[0], inside[-1] + 1
        offsets: tuple[tuple[int, int], ...] = ()
        if want_tokens:
            if shift is None:
                raise InvalidMessages(
                    "the chat template rewrites this response, so token spans cannot be given; "
                    "leave out include=['tokens'] or send the templated text as 'prompt'"
                )
            offsets = tuple(
                (max(low, start) - start + shift, min(high, end) - start + shift)
                for low, high in spans[first:last]
            )
        dropped = self._excess(ids, first, truncation)
        keep = 1 if dropped and ids[0] == self._bos_id else 0
        return Item(
            token_ids=tuple(ids[:keep] + ids[keep + dropped :]),
            response_start=first - dropped,
            response_end=last - dropped,
            offsets=offsets,
            truncated=truncated or dropped > 0,
            want_tokens=want_tokens,
            remarks=written.remarks,
        )

    def marks(self) -> Marks:
        """The marks that the tokeniser and the template write around turns.

        The header is the text that the template writes before an assistant's turn in both cases: as
        a generation prompt, and in a rendered conversation. Templates of reasoning models add text
        in one case or the other.
        """
        special_tokens = Marks(
            bos=self._bos_text,
            eos=self._tokenizer.eos_token or "",
            pad=self._tokenizer.pad_token or "",
        )
        user = [ChatMessage("user", _USER_STAND_IN)]
        try:
            whole = self._template.render([*user, ChatMessage("assistant", _STAND_IN)])
            prompted = self._template.render(user, add_generation_prompt=True)
            unprompted = self._template.render(user)
        except InvalidMessages:
            return special_tokens
        prompted = prompted.partition(_USER_STAND_IN)[2]
        unprompted = unprompted.partition(_USER_STAND_IN)[2]
        between, _, after = whole.partition(_USER_STAND_IN)[2].partition(_STAND_IN)
        # A template without a generation prompt writes the same text in both cases.
        header = between if prompted == unprompted else _common_start(between, prompted)
        bos = special_tokens.bos
        return replace(
            special_tokens,
            header=header if header.strip() else "",
            end=after.strip(),
            writes_bos=bool(bos) and whole.startswith(bos),
        )

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

    def _written(self, context: Context, response: Reply) -> Written:
        if isinstance(context, Messages):
            return self._apply_template(context, response)
        if not isinstance(response, str):
            raise InvalidRequest("a response that is a message needs a context of messages")
        if isinstance(context, OpenTurn):
            return self._close_turn(context.text, response)
        text = context.text
        return Written(text + response, len(text), len(text) + len(response), 0)

    def _close_turn(self, context: str, response: str) -> Written:
        """`_apply_template` for a context that is rendered up to the end of its last turn."""
        user = Messages((ChatMessage("user", _USER_STAND_IN),))
        written = self._apply_template(user, response)
        user_end = written.text.index(_USER_STAND_IN) + len(_USER_STAND_IN)
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
        text = self._template.render((*context.turns, reply), context.tools)
        stand_in = ChatMessage("assistant", _STAND_IN)
        around = self._template.render((*context.turns, stand_in), context.tools)
        before, found, after = around.rpartition(_STAND_IN)
        if not found:
            raise InvalidMessages("the model's chat template drops the response")
        if not text.startswith(before):
            # The template writes other text before this response (templates of reasoning models
            # do, depending on its content). Then the response is all that follows the generation
            # prompt.
            before = self._template.render(context.turns, context.tools, add_generation_prompt=True)
        if not isinstance(response, str) and not text.endswith(after):
            # A turn that calls a tool may end in another token.
            after = text[len(text) - self._length_of_end(text) :]
        start, end = len(before), len(text) - len(after)
        if not (text.startswith(before) and text.endswith(after) and start <= end):
            raise InvalidMessages(
                "the model's chat template rewrites the conversation for this response; send the "
                "templated text as 'prompt'"
            )
        shift = response.find(text[start:end]) if isinstance(response, str) else -1
        tail = {"template": after, "end_token": after.rstrip(), "none": ""}[self._ending]
        return Written(text[:end] + tail, start, end, shift if shift >= 0 else None, remarks)

    def _length_of_end(self, text: str) -> int:
        """Number of characters of the special token, and of the white space, at a text's end."""
        tail = text.rstrip()
        marks = self._tokenizer.all_special_tokens + list(self._tokenizer.get_added_vocab())
        mark = max((mark for mark in marks if mark and tail.endswith(mark)), key=len, default="")
        return len(text) - len(tail) + len(mark)

    def _remarks(self, context: Messages, response: Reply) -> tuple[Remark, ...]:
        """What the template leaves out by design.

        Raises:
            InvalidMessages: it leaves out something without which another text would be judged.
        """
        turns = context.turns if isinstance(response, str) else (*context.turns, response)
        dropped = self._template.dropped(turns, context.tools)
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

    def _tokenize(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids with at most one BOS, and each token's character span.

        A token's span starts no later than the end of the previous span. Tokenisers that trim their
        offsets (GPT-2's byte-level tokeniser does) would otherwise leave white space in no span.
        """
        encoding = self._tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ids = list(encoding.input_ids)
        spans: list[tuple[int, int]] = []
        reached = 0
        for low, high in encoding.offset_mapping:
            spans.append((min(low, reached), high))
            reached = max(reached, high)
        if self._adds_bos and self._bos_id is not None and ids[:1] != [self._bos_id]:
            ids.insert(0, self._bos_id)
            spans.insert(0, (0, 0))
        return ids, spans

    def _cut_characters(
        self, text: str, start: int, end: int, truncation: Literal["error", "left"]
    ) -> tuple[str, int, int]:
        """Shortens a text to `CHARS_PER_TOKEN` by dropping the start of the context."""
        bos = self._bos_text if text.startswith(self._bos_text) else ""
        excess = len(text) - self._max_chars
        if truncation == "error" or start - excess < len(bos):
            raise TooLong(
                f"the text has {len(text)} characters and the limit is {self._max_chars}, "
                f"{CHARS_PER_TOKEN} for each token of the model's window"
            )
        return bos + text[len(bos) + excess :], start - excess, end - excess

    def _excess(self, ids: list[int], first: int, truncation: Literal["error", "left"]) -> int:
        """Number of context tokens to drop. `first` is the index of the first response token.

        Raises:
            TooLong: `truncation` is `error`, or the response alone is longer than the window.
        """
        excess = len(ids) - self._max_length
        if excess <= 0:
            return 0
        if truncation == "error":
            raise TooLong(
                f"context and response are {len(ids)} tokens and the model takes "
                f"{self._max_length}; shorten them or send truncation='left'"
            )
        droppable = first - (1 if first and ids[0] == self._bos_id else 0)
        if excess > droppable:
            raise TooLong(
                f"the response alone is {len(ids) - droppable} tokens and the model takes "
                f"{self._max_length}; a response is never cut"
            )
        return excess


def _common_start(left: str, right: str) -> str:
    """The longest common start of two texts."""
    pairs = zip(left, right, strict=False)
    return "".join(a for a, _ in takewhile(lambda both: both[0] == both[1], pairs))
