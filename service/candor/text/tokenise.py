"""Token ids and spans of whole texts, with at most one BOS, and of texts that begin alike.

The ids are always those of the whole text. A start that several texts share is tokenised once where
that provably gives the same: tokenisers cut a text at its added tokens first (`<|im_end|>`) and
read each piece by itself, so what stands before the last added token of the shared start cannot
depend on what comes after it. The first two texts of each start are tokenised both ways, and a
start that fails is tokenised whole from then on.
"""

from __future__ import annotations

import os
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

# One text at a time is tokenised per thread. The library's own threads would make the long text of
# one thread and the short text of another wait for each other.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

Ids = list[int]
Spans = list[tuple[int, int]]

PIECE_CHARS = 65_536
"""Characters that are counted at a time. Between two pieces a count can be given up."""

_CUT_TOKENS = 16
"""Most tokens that a text may have more because it was cut once."""


class Tokeniser:
    """A fast tokeniser. Several threads may use it at once: its library locks nothing and releases
    the interpreter while it works, and nothing here changes its state.

    Args:
        tokenizer: a fast tokeniser.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.bos_id: int | None = tokenizer.bos_token_id
        first = tokenizer("a").input_ids[:1]  # also turns padding and truncation off for good
        self.adds_bos = self.bos_id is not None and first == [self.bos_id]
        self._backend: Any = cast(Any, tokenizer).backend_tokenizer
        self.added = tuple(sorted(tokenizer.get_added_vocab(), key=len, reverse=True))
        """The texts of the added tokens, longest first."""
        # A token that is a part of another one may turn out to be that other one.
        self._cuttable = {
            tokenizer.get_added_vocab()[text]: text
            for text in self.added
            if not any(other != text and text in other for other in self.added)
        }

    def whole(self, text: str) -> tuple[Ids, Spans]:
        """Token ids with at most one BOS, and each token's character span.

        A token's span starts no later than the end of the previous span. Tokenisers that trim their
        offsets (GPT-2's byte-level tokeniser does) would otherwise leave white space in no span.
        """
        ids, offsets = self._encode(text)
        spans = _closed(offsets, 0)
        if self.adds_bos and self.bos_id is not None and ids[:1] != [self.bos_id]:
            ids.insert(0, self.bos_id)
            spans.insert(0, (0, 0))
        return ids, spans

    def exceeds(self, text: str, most: int) -> bool:
        """Whether the text certainly has more than `most` tokens. Stops counting at that point."""
        counted = cuts = at = 0
        while at < len(text):
            end = _piece_end(text, at)
            counted += len(self._encode(text[at:end])[0])
            cuts += 1
            at = end
            if counted > most + _CUT_TOKENS * cuts:
                return True
        return False

    def tail(self, text: str, least: int) -> int:
        """Number of characters at the end of a text that have at least `least` tokens, or all."""
        counted, at = 0, len(text)
        while at > 0 and counted < least:
            begin = _piece_begin(text, at)
            counted += len(self._encode(text[begin:at])[0]) - _CUT_TOKENS
            at = begin
        return len(text) - at

    def last_added(self, text: str, ids: Ids, spans: Spans, before: int) -> int | None:
        """Index of the last added token that ends before the character `before`, or None.

        The id alone does not tell: `<unk>` is an added token, and also what the model makes of a
        letter that it does not know.
        """
        for index in range(len(ids) - 1, 0, -1):
            low, high = spans[index]
            token = self._cuttable.get(ids[index])
            if high < before and token is not None and text[low:high].strip() == token.strip():
                return index
        return None

    def _encode(self, text: str) -> tuple[Ids, Spans]:
        # `encode` would hold the interpreter for the whole time; `encode_batch` does not.
        (encoding,) = self._backend.encode_batch([text], add_special_tokens=False)
        return list(encoding.ids), list(encoding.offsets)


class SharedStart:
    """Tokenises texts that begin alike. For one thread.

    Args:
        start: the text that all of them begin with.
    """

    CHECKED = 2
    """Texts that are tokenised both ways."""

    def __init__(self, tokeniser: Tokeniser, start: str) -> None:
        self._tokeniser = tokeniser
        self._start = start
        self._num_checked = 0
        self._kept: tuple[Ids, Spans] | None = None
        self._cut = 0
        self._fails = False

    def encode(self, text: str) -> tuple[Ids, Spans]:
        """As `Tokeniser.whole`."""
        if self._fails or not text.startswith(self._start):
            return self._tokeniser.whole(text)
        if self._kept is None:
            return self._keep(text)
        ids, spans = self._kept
        more_ids, more = self._tokeniser._encode(text[self._cut :])
        more_spans = [(low + self._cut, high + self._cut) for low, high in more]
        found = ids + more_ids, spans + _closed(more_spans, spans[-1][1] if spans else 0)
        if self._num_checked < self.CHECKED:
            self._num_checked += 1
            right = self._tokeniser.whole(text)
            self._fails = found != right
            return right
        return found

    def _keep(self, text: str) -> tuple[Ids, Spans]:
        """Tokenises the first text, and keeps what stands before the last added token."""
        ids, spans = self._tokeniser.whole(text)
        index = self._tokeniser.last_added(text, ids, spans, len(self._start))
        if index is None:
            self._fails = True
        else:
            self._cut = spans[index][0]
            self._kept = ids[:index], spans[:index]
        return ids, spans


def _closed(offsets: Spans, reached: int) -> Spans:
    """The offsets without gaps between them."""
    spans: Spans = []
    for low, high in offsets:
        spans.append((min(low, reached), high))
        reached = max(reached, high)
    return spans


def _piece_begin(text: str, end: int) -> int:
    """Where a piece that ends at `end` begins: before a space, if there is one."""
    begin = max(0, end - PIECE_CHARS)
    space = text.find(" ", begin, end - 1) if begin else 0
    return space if space >= begin else begin


def _piece_end(text: str, at: int) -> int:
    """Where a piece that begins at `at` ends: before a space, if there is one."""
    end = at + PIECE_CHARS
    if end >= len(text):
        return len(text)
    space = text.rfind(" ", at + 1, end)
    return space if space > at else end
