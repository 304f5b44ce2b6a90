"""`lay_out`: many token sequences -> one packed sequence in which a shared prefix occurs once.

The sequences of a batch are cut into *segments*, the edges of their radix tree: a prefix that
several sequences share is one segment, and what follows it in each sequence is another. The tokens
of a segment attend causally to each other, and to the segments that lead to it from the root. So
the context of N candidates is computed once, whether they came as one request or as N, and so are
the early turns that two conversations share. Equal sequences are computed once altogether. A prefix
whose keys and values were kept from an earlier forward (`candor.forward.prefix_kv`) is a segment
that is attended to and not computed.

Pure Python, no torch. The attention over a layout is `candor.forward.packed_attention`.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

Tokens = Sequence[int]
Path = tuple[int, ...]
"""Numbers of the segments from the root to a point in the tree."""

MIN_SAVED = 16
"""Tokens that a shared segment must save: each cut costs one attention call per layer."""

_KEY_BYTES = 4
"""Bytes of a sort key per token."""

MAX_LEVELS = 16
"""Most segments from the root to a leaf. Real conversations branch a few times; texts made to
branch at every token would make every attention call gather hundreds of pieces."""


class CachedTokens(NamedTuple):
    """The beginning of one sequence that a forward may skip: the smaller of the two counts."""

    num_cached: int
    """First tokens whose keys and values are cached."""
    num_skippable: int
    """First tokens that neither a probe nor the head reads."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Packed positions [start, end) of tokens that some sequences share.

    `depth` is the place of the segment's first token in each of these sequences, from 0. `before`
    is the path that leads to the segment, from the root.
    """

    start: int
    end: int
    depth: int
    before: Path


@dataclass(frozen=True, slots=True)
class Layout:
    """One packed sequence.

    Attributes:
        token_ids, positions: [T]; positions restart at a segment's depth.
        segments: in packed order; the segments that lead to a segment come before it.
        paths: for each sequence, in the order given, the segments it is made of.
        cached_from: the first `len(cached_from)` segments are cached; for each of them, the number
            of a sequence whose cached prefix holds its keys and values.
    """

    token_ids: tuple[int, ...]
    positions: tuple[int, ...]
    segments: tuple[Segment, ...]
    paths: tuple[Path, ...]
    cached_from: tuple[int, ...] = ()

    @property
    def num_cached_tokens(self) -> int:
        """Tokens of the cached segments, which are in front."""
        return self.segments[len(self.cached_from) - 1].end if self.cached_from else 0

    @property
    def num_tokens(self) -> int:
        """Tokens that a forward over the layout computes."""
        return len(self.token_ids) - self.num_cached_tokens

    def indices(self, sequence: int, start: int, end: int) -> Iterator[int]:
        """Packed positions of tokens [start, end) of one sequence."""
        for number in self.paths[sequence]:
            segment = self.segments[number]
            shift = segment.start - segment.depth
            low = max(start, segment.depth)
            high = min(end, segment.depth + segment.end - segment.start)
            yield from range(low + shift, high + shift)


def sort_key(tokens: Tokens) -> bytes:
    """Bytes that sort as the tokens do, and far faster: one `memcmp` compares two sequences with a
    long common beginning."""
    ids = array("I", tokens)
    if sys.byteorder == "little":
        ids.byteswap()
    return ids.tobytes()


def lay_out(
    sequences: Sequence[Tokens],
    keys: Sequence[bytes] | None = None,
    cached_tokens: Sequence[CachedTokens] = (),
) -> Layout:
    """The packed form of `sequences`, in which prefixes worth sharing occur once.

    Args:
        keys: the `sort_key` of each sequence; computed here where not given.
        cached_tokens: for each sequence, its cached tokens; empty where nothing is cached.

    Raises:
        ValueError: there is no sequence, or a sequence is empty.
    """
    if not sequences or min(map(len, sequences)) == 0:
        raise ValueError("a layout needs a sequence, and every sequence at least one token")
    key = (keys or [*map(sort_key, sequences)]).__getitem__
    order = sorted(range(len(sequences)), key=key)
    packing = _Packing(
        sequences, [list(same) for _, same in groupby(order, key=key)], cached_tokens
    )
    distinct = packing.distinct
    # Runs of `distinct` still to be cut: sequences [low, high) share their first `depth` tokens,
    # which are the segments `before`. A stack, not recursion: texts can nest deeper than Python's
    # recursion limit.
    stack: list[tuple[int, int, int, Path]] = [(0, len(distinct), 0, ())]
    while stack:
        low, high, depth, before = stack.pop()
        first, last = sequences[distinct[low][0]], sequences[distinct[high - 1][0]]
        if high - low == 1:
            packing.end(low, packing.add(low, high, depth, len(first), before))
            continue
        shared = common(first, last, depth)
        saved = (shared - depth) * (high - low - 1)
        if saved >= MIN_SAVED and len(before) < MAX_LEVELS - 1:
            before, depth = packing.add(low, high, depth, shared, before), shared
        stack.extend(
            (start, end, depth, before)
            for start, end in reversed(_runs(sequences, distinct, low, high, shared))
        )
    return packing.layout()


class _Packing:
    """A layout in the making.

    Args:
        distinct: the numbers of equal sequences, one list per distinct sequence, sorted.
        cached_tokens: as `lay_out`.
    """

    def __init__(
        self,
        sequences: Sequence[Tokens],
        distinct: Sequence[Sequence[int]],
        cached_tokens: Sequence[CachedTokens],
    ) -> None:
        self.distinct = distinct
        self._sequences = sequences
        self._cached_tokens = cached_tokens
        self._token_ids: list[int] = []
        self._positions: list[int] = []
        self._segments: list[Segment] = []
        self._paths: list[Path] = [()] * len(sequences)
        self._cached_from: dict[int, int] = {}

    def add(self, low: int, high: int, start: int, end: int, before: Path) -> Path:
        """Adds tokens [start, end), which `distinct[low:high]` share, after the segments `before`.

        They are one segment, or two where a cached prefix ends among them.
        """
        number, cut = self._longest_cached(low, high)
        for first, last in ((start, min(end, cut)), (max(start, cut), end)):
            if first >= last:
                continue
            begin = len(self._token_ids)
            self._token_ids.extend(self._sequences[number][first:last])
            self._positions.extend(range(first, last))
            if last <= cut:
                self._cached_from[len(self._segments)] = number
            self._segments.append(Segment(begin, len(self._token_ids), first, before))
            before = (*before, len(self._segments) - 1)
        return before

    def end(self, place: int, path: Path) -> None:
        """The sequences `distinct[place]` are made of the segments of `path`."""
        for number in self.distinct[place]:
            self._paths[number] = path

    def _longest_cached(self, low: int, high: int) -> tuple[int, int]:
        """A sequence of `distinct[low:high]`, and how many of its first tokens are cached and need
        not be computed for any sequence of this run."""
        if not self._cached_tokens:
            return self.distinct[low][0], 0
        sharing = [number for same in self.distinct[low:high] for number in same]
        number = max(sharing, key=lambda candidate: self._cached_tokens[candidate].num_cached)
        skippable = (self._cached_tokens[candidate].num_skippable for candidate in sharing)
        return number, min(self._cached_tokens[number].num_cached, *skippable)

    def layout(self) -> Layout:
        layout = Layout(
            tuple(self._token_ids),
            tuple(self._positions),
            tuple(self._segments),
            tuple(self._paths),
        )
        return _cached_first(layout, self._cached_from) if self._cached_from else layout


def _cached_first(layout: Layout, cached_from: Mapping[int, int]) -> Layout:
    """The same layout with the cached segments in front.

    A cached segment is the beginning of a sequence, so the segments that lead to a segment still
    come before it.
    """
    order = sorted(range(len(layout.segments)), key=lambda number: number not in cached_from)
    place = {number: new for new, number in enumerate(order)}
    token_ids: list[int] = []
    positions: list[int] = []
    segments = []
    for segment in (layout.segments[number] for number in order):
        begin = len(token_ids)
        token_ids.extend(layout.token_ids[segment.start : segment.end])
        positions.extend(layout.positions[segment.start : segment.end])
        before = tuple(place[number] for number in segment.before)
        segments.append(Segment(begin, len(token_ids), segment.depth, before))
    paths = (tuple(place[number] for number in path) for path in layout.paths)
    sources = tuple(cached_from[number] for number in order if number in cached_from)
    return Layout(tuple(token_ids), tuple(positions), tuple(segments), tuple(paths), sources)


def count_distinct(keys: Iterable[bytes]) -> Iterator[int]:
    """Yields the number of tokens in the packed form of the first sequence, of the first two, and
    so on.

    Much cheaper than laying each of them out. A shared prefix shorter than `MIN_SAVED` is counted
    for each sequence, so the count may be a little higher than a layout's number of tokens. Where
    several short prefixes nest, it may be a little lower.

    Args:
        keys: `sort_key` of each sequence.
    """
    seen: list[bytes] = []
    total = 0
    for key in keys:
        place = bisect_left(seen, key)
        if place == len(seen) or seen[place] != key:
            neighbours = seen[max(0, place - 1) : place + 1]
            shared = max((_common_tokens(key, other) for other in neighbours), default=0)
            total += len(key) // _KEY_BYTES - (shared if shared >= MIN_SAVED else 0)
            seen.insert(place, key)
        yield total


def _common_tokens(key: bytes, other: bytes) -> int:
    """How many tokens two sort keys begin with alike; by bisection, since `bytes` compare fast."""
    low, high = 0, min(len(key), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if key[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low // _KEY_BYTES


def common(first: Tokens, last: Tokens, start: int = 0) -> int:
    """How many tokens two sequences begin with alike, where their first `start` tokens are known to
    be alike. In a sorted run the first and the last sequence share what all share."""
    end = min(len(first), len(last))
    position = start
    while position < end and first[position] == last[position]:
        position += 1
    return position


def _runs(
    sequences: Sequence[Tokens], distinct: Sequence[Sequence[int]], low: int, high: int, at: int
) -> list[tuple[int, int]]:
    """[low, high) cut by token number `at`; a sequence that ends there is a run of its own."""

    def token(number: int) -> int | None:
        sequence = sequences[distinct[number][0]]
        return sequence[at] if len(sequence) > at else None

    runs = []
    for _, members in groupby(range(low, high), key=token):
        numbers = list(members)
        runs.append((numbers[0], numbers[-1] + 1))
    return runs
