"""Makes an `Item` of a text: response span, token ids, truncation.

A token may cross the border between context and response, so the ids are always those of the whole
text (`candor.text.tokenise`). The response's tokens are those whose characters overlap it. Every
invalid text is refused here, before the queue, and a text that is surely too long is refused before
it is tokenised. Each probe chooses the tokens it pools over.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from candor.errors import (
    CandorError,
    DeadlineExceeded,
    EmptyResponse,
    InvalidMessages,
    InvalidRequest,
    TooLong,
)
from candor.item import Item, Remark, RenderedText
from candor.text.request import (
    Context,
    Empty,
    Messages,
    Reply,
    ScoringRequest,
    Truncation,
    num_json_chars,
)
from candor.text.tokenise import Ids, SharedStart, Spans
from candor.text.writing import Wording, Writer, Written

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

MAX_REQUEST_TOKENS = 2**26
"""Tokens in one request: they are held in memory before the queue can refuse them."""

EMPTY_TURN = Remark(
    "empty_response",
    "the response has no token: R is that of the empty turn, and the penalty is 0",
)


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
        wording: Wording,
        context: Context,
        *,
        truncation: Truncation = "error",
        want_tokens: bool = False,
        want_text: bool = False,
        empty: Empty = "error",
    ) -> None:
        self._tokeniser = wording.tokeniser
        self._marks = wording.marks
        self._max_length = wording.max_length
        self._writer = Writer(wording, context)
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
        self._start: tuple[str, int, SharedStart] | None = None
        """A start that responses share, the characters cut from it, and its tokens."""

    def encode(self, response: Reply) -> Item:
        """The item of one response.

        Raises:
            EmptyResponse: no response token is left to read a probe at.
            InvalidMessages, InvalidRequest: as `Writer.write`.
            TooLong: the text is longer than the window.
        """
        if not response and self._empty == "error":
            raise EmptyResponse("the response is empty; there is nothing to score")
        self._refuse_long_parts(response)
        written = self._writer.write(response)
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


def encode_each(wording: Wording, request: ScoringRequest, deadline: float) -> Iterator[Item]:
    """The items of a request's responses, one by one.

    Args:
        deadline: `time.monotonic()` seconds.

    Raises:
        CandorError: as `Conversation.encode`, with the indices of the group and of the response.
        DeadlineExceeded: the caller has stopped waiting.
        InvalidRequest: the request has more than `MAX_REQUEST_TOKENS`.
    """
    num_tokens = 0
    for index, group in enumerate(request.groups):
        conversation = Conversation(
            wording,
            group.context,
            truncation=request.truncation,
            want_tokens=request.want_tokens,
            want_text=request.want_text,
            empty=request.empty_response,
        )
        for number, response in enumerate(group.responses):
            if time.monotonic() > deadline:
                raise DeadlineExceeded("the deadline passed before the texts were tokenised")
            try:
                item = conversation.encode(response)
            except CandorError as error:
                raise error.at(index, number) from None
            num_tokens += item.num_tokens
            if num_tokens > MAX_REQUEST_TOKENS:
                raise InvalidRequest(
                    f"the request has more than {MAX_REQUEST_TOKENS} tokens, contexts counted "
                    "once for each response: send it in several requests"
                )
            yield item
