"""`PrefixCache`: keeps the keys and values of contexts for later responses, up to a size.

A trainer that sends a group's responses one by one sends the context again with each response.
Within a batch the context is computed once; across batches it is found in this cache. The model
threads use the cache.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cachetools import LRUCache

from candor.forward.prefix_kv import CachedPrefix
from candor.item import Item

MIN_TOKENS = 32
"""Shortest context that is kept. A shorter context is computed faster than it is looked up."""


@dataclass(frozen=True, slots=True)
class Contexts:
    """The contexts of one batch.

    Attributes:
        cached: for each item, the longest cached context that is a prefix of the item's context.
        to_keep: by number of an item, how many of its first tokens are worth keeping. Not all items
            are in it.
        keys: the cache key of each item in `to_keep`.
    """

    cached: list[CachedPrefix | None]
    to_keep: dict[int, int]
    keys: dict[int, bytes]


class PrefixCache:
    """The most recently used contexts.

    Args:
        max_bytes: bound on the size of the keys and values.
    """

    def __init__(self, max_bytes: int) -> None:
        self.num_hits = 0
        """Batches that found at least one of their contexts."""
        self.num_saved_tokens = 0
        self._max_bytes = max_bytes
        self._bytes_per_token = 0.0
        """Bytes of the keys and values per token; 0.0 until a context has been kept."""
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
        """Size of the cached keys and values."""
        return int(self._prefixes.currsize)

    def look_up(self, items: Sequence[Item]) -> Contexts:
        """Finds the cached parts of the items' contexts, and the parts to keep from the forward."""
        keys = [cacheable_context(item) for item in items]
        with self._lock:
            lengths = sorted({len(key) for key in self._prefixes}, reverse=True)
            found = {key: self._longest(key, lengths) for key in set(keys)}
            cached = [found[key] for key in keys]
            to_keep = self._worth_keeping(keys, cached)
        return Contexts(cached, to_keep, {number: keys[number] for number in to_keep})

    def keep(
        self, contexts: Contexts, computed: Mapping[int, CachedPrefix], num_saved: int
    ) -> None:
        """Stores the contexts that a forward computed.

        Args:
            contexts: the result of `look_up` for that forward.
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
        """Drops every context. Called when the model's scores are in doubt."""
        with self._lock:
            evicted = self._prefixes.num_evictions
            self._prefixes.clear()
            self._prefixes.num_evictions = evicted

    def _longest(self, key: bytes, lengths: Sequence[int]) -> CachedPrefix | None:
        """The longest cached context that is a prefix of `key`. It counts as used."""
        heads = (key[:length] for length in lengths if length <= len(key))
        head = next((head for head in heads if head in self._prefixes), None)
        return None if head is None else self._prefixes[head]

    def _worth_keeping(
        self, keys: Sequence[bytes], cached: Sequence[CachedPrefix | None]
    ) -> dict[int, int]:
        """Lengths of the contexts to keep, by number of the first item with the context.

        A context is kept if it is long enough and not completely cached, as long as there is room.
        """
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


def cacheable_context(item: Item) -> bytes:
    """The sort key of an item's context: the tokens before the response and before the last token.

    Probes and the head read nothing at these tokens, so only their keys and values are needed.
    """
    return item.sort_key[: 4 * min(item.response_start, item.num_tokens - 1)]
