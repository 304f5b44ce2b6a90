"""`lay_out`: many token sequences -> one packed sequence in which a shared prefix occurs once.

The sequences of a batch are cut into *segments*, the edges of their radix tree: what several
sequences begin with is one segment, what only one of them goes on with is another. A segment's
tokens attend to the segments before it on the way from the root, and causally to themselves. So the
context of N candidates is computed once, whether they came as one request or as N, and so are the
early turns that two conversations share; equal sequences are computed once altogether. Where the
keys and values of a prefix are known from an earlier forward, it is a segment that is only looked
at (`candor.forward.prefix_kv`).

Pure Python, no torch. The attention over a layout is `candor.forward.packed_attention`.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

Tokens = Sequence[int]

MIN_SAVED = 16
"""Tokens a shared segment must save: cutting a sequence costs an attention call a layer."""

_KEY_BYTES = 4
"""Bytes of a sort key per token."""

MAX_LEVELS = 16
"""Segments on the way from the root to a leaf. Real conversations branch a few times; texts made to
branch at every token would make every attention call gather hundreds of pieces."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Packed positions [start, end); its first token is number `depth` of every sequence through
    it, and `before` are the segments that lead to it, from the root."""

    start: int
    end: int
    depth: int
    before: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """One packed sequence.

    Attributes:
        token_ids, positions: [T]; positions restart at a segment's depth.
        segments: in packed order; what leads to a segment comes before it.
        paths: for each sequence, as given, the segments it is made of.
        known: for each of the first segments, whose keys and values are known, a sequence that it
            is part of.
    """

    token_ids: tuple[int, ...]
    positions: tuple[int, ...]
    segments: tuple[Segment, ...]
    paths: tuple[tuple[int, ...], ...]
    known: tuple[int, ...] = ()

    @property
    def num_known(self) -> int:
        """Tokens in front that are looked at and not computed."""
        return self.segments[len(self.known) - 1].end if self.known else 0

    @property
    def num_tokens(self) -> int:
        """Tokens that a forward over the layout computes."""
        return len(self.token_ids) - self.num_known

    def indices(self, sequence: int, start: int, end: int) -> Iterator[int]:
        """Packed positions of tokens [start, end) of one sequence."""
        for number in self.paths[sequence]:
            segment = self.segments[number]
            shift = segment.start - segment.depth
            low = max(start, segment.depth)
            high = min(end, segment.depth + segment.end - segment.start)
            yield from range(low + shift, high + shift)


def sort_key(tokens: Tokens) -> bytes:
    """Bytes that compare as the tokens do, and far faster: sequences that share a long context are
    told apart by one `memcmp`, not token by token."""
    ids = array("I", tokens)
    if sys.byteorder == "little":
        ids.byteswap()
    return ids.tobytes()


def lay_out(
    sequences: Sequence[Tokens],
    keys: Sequence[bytes] | None = None,
    known: Sequence[tuple[int, int]] = (),
) -> Layout:
    """The packed form of `sequences`, in which prefixes worth sharing occur once.

    Args:
        keys: the `sort_key` of each, where they are known already.
        known: of each sequence, how many of its first tokens are known, and how many of them need
            not be computed if they are.

    Raises:
        ValueError: no sequence, or an empty one.
    """
    if not sequences or min(map(len, sequences)) == 0:
        raise ValueError("a layout needs a sequence, and every sequence at least one token")
    key = (keys or [*map(sort_key, sequences)]).__getitem__
    order = sorted(range(len(sequences)), key=key)
    distinct = [list(same) for _, same in groupby(order, key=key)]
    token_ids: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    paths: list[tuple[int, ...]] = [()] * len(sequences)
    known_of: dict[int, int] = {}

    def emit(low: int, high: int, start: int, end: int, before: tuple[int, ...]) -> tuple[int, ...]:
        """Tokens [start, end) that `distinct[low:high]` share, cut where they cease to be known."""
        number, cut = _longest_known(distinct[low:high], known)
        for first, last in ((start, min(end, cut)), (max(start, cut), end)):
            if first >= last:
                continue
            begin = len(token_ids)
            token_ids.extend(sequences[number][first:last])
            positions.extend(range(first, last))
            if last <= cut:
                known_of[len(segments)] = number
            segments.append(Segment(begin, len(token_ids), first, before))
            before = (*before, len(segments) - 1)
        return before

    # Runs of `distinct` still to be cut: [low, high) share their first `depth` tokens, which are
    # the segments `before`. A stack, not recursion: texts can nest deeper than Python's.
    waiting: list[tuple[int, int, int, tuple[int, ...]]] = [(0, len(distinct), 0, ())]
    while waiting:
        low, high, depth, before = waiting.pop()
        first, last = sequences[distinct[low][0]], sequences[distinct[high - 1][0]]
        if high - low == 1:
            path = emit(low, high, depth, len(first), before)
            for index in distinct[low]:
                paths[index] = path
            continue
        shared = common(first, last, depth)
        saved = (shared - depth) * (high - low - 1)
        if saved >= MIN_SAVED and len(before) < MAX_LEVELS - 1:
            before, depth = emit(low, high, depth, shared, before), shared
        waiting.extend(
            (start, end, depth, before)
            for start, end in reversed(_runs(sequences, distinct, low, high, shared))
        )
    layout = Layout(tuple(token_ids), tuple(positions), tuple(segments), tuple(paths))
    return _known_first(layout, known_of) if known_of else layout


def _longest_known(
    run: Sequence[Sequence[int]], known: Sequence[tuple[int, int]]
) -> tuple[int, int]:
    """A sequence of the run, and how many of its first tokens are known and needed by none."""
    if not known:
        return run[0][0], 0
    sharing = [number for same in run for number in same]
    number = max(sharing, key=lambda one: known[one][0])
    return number, min(known[number][0], *(known[one][1] for one in sharing))


def _known_first(layout: Layout, known_of: dict[int, int]) -> Layout:
    """The same with the known segments in front. They are prefixes, so what leads to a segment
    still comes before it."""
    order = sorted(range(len(layout.segments)), key=lambda number: number not in known_of)
    place = {number: new for new, number in enumerate(order)}
    token_ids: list[int] = []
    positions: list[int] = []
    segments = []
    for one in (layout.segments[number] for number in order):
        begin = len(token_ids)
        token_ids.extend(layout.token_ids[one.start : one.end])
        positions.extend(layout.positions[one.start : one.end])
        before = tuple(place[number] for number in one.before)
        segments.append(Segment(begin, len(token_ids), one.depth, before))
    paths = (tuple(place[number] for number in path) for path in layout.paths)
    known = tuple(known_of[number] for number in order if number in known_of)
    return Layout(tuple(token_ids), tuple(positions), tuple(segments), tuple(paths), known)


def count_distinct(keys: Iterable[bytes]) -> Iterator[int]:
    """Tokens of the packed form of the first sequence, of the first two, and so on.

    Much cheaper than laying each of them out. A start that is shared but shorter than `MIN_SAVED`
    is counted for each sequence, so the count may be a little over a layout's, and, where several
    short starts nest, a little under it.

    Args:
        keys: `sort_key` of each sequence.
    """
    known: list[bytes] = []
    total = 0
    for key in keys:
        place = bisect_left(known, key)
        if place == len(known) or known[place] != key:
            neighbours = known[max(0, place - 1) : place + 1]
            shared = max((_common_tokens(key, other) for other in neighbours), default=0)
            total += len(key) // _KEY_BYTES - (shared if shared >= MIN_SAVED else 0)
            known.insert(place, key)
        yield total


def _common_tokens(key: bytes, other: bytes) -> int:
    """How many tokens two sort keys begin with alike, by bisection: `bytes` compare at C speed."""
    low, high = 0, min(len(key), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if key[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low // _KEY_BYTES


def common(first: Tokens, last: Tokens, known: int = 0) -> int:
    """How many tokens two sequences begin with alike, at least `known`. In a sorted run the first
    and the last sequence share what all share."""
    end = min(len(first), len(last))
    position = known
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
