"""Contexts whose keys and values are kept for the responses that come later, up to a size.

A trainer that sends a group's responses one by one sends its context again with each. In one batch
the context is computed once; from one batch to the next it is found here. The model threads use
the cache.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cachetools import LRUCache

from candor.forward.prefix_kv import CachedPrefix
from candor.item import Item

MIN_TOKENS = 32
"""Shortest context that is kept: a shorter one is computed again faster than it is looked up."""


@dataclass(frozen=True, slots=True)
class Contexts:
    """The contexts of one batch.

    Attributes:
        cached: for each item, the longest cached context that its own context begins with.
        to_keep: for some items, by number, how many of their first tokens are worth keeping.
        keys: the contexts of those items, as the cache names them.
    """

    cached: list[CachedPrefix | None]
    to_keep: dict[int, int]
    keys: dict[int, bytes]


class PrefixCache:
    """The most recently used contexts.

    Args:
        max_bytes: bound on their keys and values.
    """

    def __init__(self, max_bytes: int) -> None:
        self.num_hits = 0
        """Batches that found a context of theirs."""
        self.num_saved_tokens = 0
        self._max_bytes = max_bytes
        self._bytes_per_token = 0.0
        """Bytes of one token's keys and values, once a context has been kept."""
        self._prefixes = _CountingLRU(max_bytes)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._prefixes)

    @property
    def num_evictions(self) -> int:
        """Contexts dropped to stay within `max_bytes`."""
        return self._prefixes.num_evictions

    @property
    def num_bytes(self) -> int:
        """Size of the keys and values that are kept."""
        return int(self._prefixes.currsize)

    def look_up(self, items: Sequence[Item]) -> Contexts:
        """What of the items' contexts is cached, and what should be kept of their forward."""
        keys = [context_key(item) for item in items]
        with self._lock:
            lengths = sorted({len(key) for key in self._prefixes}, reverse=True)
            found = {key: self._longest(key, lengths) for key in set(keys)}
            cached = [found[key] for key in keys]
            to_keep = self._worth_keeping(keys, cached)
        return Contexts(cached, to_keep, {number: keys[number] for number in to_keep})

    def keep(
        self, contexts: Contexts, computed: Mapping[int, CachedPrefix], num_saved: int
    ) -> None:
        """Takes in what a forward computed.

        Args:
            contexts: as looked up for it.
            computed: the keys and values of `contexts.to_keep`, by number of the item.
            num_saved: tokens that the forward did not have to compute.
        """
        with self._lock:
            self.num_hits += num_saved > 0
            self.num_saved_tokens += num_saved
            for number, prefix in computed.items():
                key = contexts.keys[number]
                if key not in self._prefixes and prefix.num_bytes <= self._max_bytes:
                    self._prefixes[key] = prefix
                    self._bytes_per_token = prefix.num_bytes / prefix.num_tokens

    def clear(self) -> None:
        """Forgets every context: what was computed is in doubt."""
        with self._lock:
            evicted = self._prefixes.num_evictions
            self._prefixes.clear()
            self._prefixes.num_evictions = evicted

    def _longest(self, key: bytes, lengths: Sequence[int]) -> CachedPrefix | None:
        """The longest cached context that `key` begins with; it counts as used."""
        heads = (key[:length] for length in lengths if length <= len(key))
        head = next((head for head in heads if head in self._prefixes), None)
        return None if head is None else self._prefixes[head]

    def _worth_keeping(
        self, keys: Sequence[bytes], cached: Sequence[CachedPrefix | None]
    ) -> dict[int, int]:
        """By number of the first item that has it, the length of each context that is long enough
        and not cached to its end. No more of them than there is room for."""
        first: dict[bytes, int] = {}
        for number, key in enumerate(keys):
            first.setdefault(key, number)
        worth: dict[int, int] = {}
        for key, number in first.items():
            length = len(key) // 4
            prefix = cached[number]
            if length < MIN_TOKENS or (prefix is not None and length <= prefix.num_tokens):
                continue
            if worth and (sum(worth.values()) + length) * self._bytes_per_token > self._max_bytes:
                break
            worth[number] = length
        return worth


class _CountingLRU(LRUCache[bytes, CachedPrefix]):
    """An LRU cache bounded in bytes that counts its evictions."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, getsizeof=lambda prefix: prefix.num_bytes)
        self.num_evictions = 0

    def popitem(self) -> tuple[bytes, CachedPrefix]:
        self.num_evictions += 1
        return super().popitem()


def context_key(item: Item) -> bytes:
    """The sort key of an item's context: of the tokens before the response and before the last
    token, since probes and the head read nothing there, only their keys and values are needed."""
    return item.sort_key[: 4 * min(item.response_start, item.num_tokens - 1)]
