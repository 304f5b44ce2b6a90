"""Contexts whose keys and values are kept for the responses that come later, up to a size.

A trainer that sends a group's responses one by one sends its context again with each; in one batch
it is computed once, and from one batch to the next it is found here. Used from the model threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from candor.forward.prefix_kv import CachedPrefix
from candor.item import Item

LEAST_TOKENS = 32
"""A shorter context is computed again faster than it is worth."""


class PrefixCache:
    """The most recently used contexts.

    Args:
        max_bytes: bound on their keys and values.
    """

    def __init__(self, max_bytes: int) -> None:
        self.num_hits = 0
        self.num_saved_tokens = 0
        self.num_evictions = 0
        self.num_bytes = 0
        self._max_bytes = max_bytes
        self._token_bytes = 0.0
        """Of one token's keys and values; known with the first that are kept."""
        self._prefixes: OrderedDict[bytes, CachedPrefix] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._prefixes)

    def find(self, items: Sequence[Item]) -> list[CachedPrefix | None]:
        """For each item, the longest context known that its own context begins with."""
        with self._lock:
            lengths = sorted({one.num_tokens for one in self._prefixes.values()}, reverse=True)
            found: dict[bytes, CachedPrefix | None] = {}
            for context in {context_of(item) for item in items}:
                heads = (context[: 4 * n] for n in lengths if 4 * n <= len(context))
                head = next((head for head in heads if head in self._prefixes), None)
                if head is not None:
                    self._prefixes.move_to_end(head)
                found[context] = None if head is None else self._prefixes[head]
        return [found[context_of(item)] for item in items]

    def missing(
        self, items: Sequence[Item], known: Sequence[CachedPrefix | None]
    ) -> dict[int, int]:
        """By the number of an item that has it, the length of each context that is worth keeping:
        long enough, and not known to its end. No more of them than there is room for."""
        first: dict[bytes, int] = {}
        for number, item in enumerate(items):
            first.setdefault(context_of(item), number)
        worth: dict[int, int] = {}
        for context, number in first.items():
            length = len(context) // 4
            prefix = known[number]
            if length < LEAST_TOKENS or (prefix is not None and length <= prefix.num_tokens):
                continue
            if worth and (sum(worth.values()) + length) * self._token_bytes > self._max_bytes:
                break
            worth[number] = length
        return worth

    def put(self, item: Item, prefix: CachedPrefix) -> None:
        """Keeps the keys and values of an item's context."""
        context = context_of(item)
        with self._lock:
            if context in self._prefixes or prefix.num_bytes > self._max_bytes:
                return
            self._prefixes[context] = prefix
            self._token_bytes = prefix.num_bytes / prefix.num_tokens
            self.num_bytes += prefix.num_bytes
            while self.num_bytes > self._max_bytes:
                _, oldest = self._prefixes.popitem(last=False)
                self.num_bytes -= oldest.num_bytes
                self.num_evictions += 1

    def saved(self, num_tokens: int) -> None:
        """A forward did not have to compute so many tokens."""
        with self._lock:
            self.num_hits += num_tokens > 0
            self.num_saved_tokens += num_tokens

    def clear(self) -> None:
        """Forgets everything: what was computed is in doubt."""
        with self._lock:
            self._prefixes.clear()
            self.num_bytes = 0


def context_of(item: Item) -> bytes:
    """The sort key of the tokens whose keys and values are all that is needed of them: those before
    the response and the last token, where probes and the head read."""
    return item.sort_key[: 4 * min(item.response_start, item.num_tokens - 1)]
