"""Scores that were computed already, by exact token ids: who asks again costs nothing.

An item's key is a SHA-256 over its ids and its response span (the probes read that span, so equal
ids are not enough). The score kept is the one first computed; in bfloat16 another batch would round
it a little differently. Only finite scores are kept, and none with per-token logits: they are asked
for rarely and are large. Used from the event loop's thread only.
"""

from __future__ import annotations

from collections import OrderedDict

from candor.item import Item, Score

ENTRY_BYTES = 450
"""Key, link, score and its table of readings, as Python objects."""
READING_BYTES = 220
"""An object with three floats, and its place in the table."""


class Memo:
    """The most recently used scores, up to a size.

    Args:
        max_bytes: bound on what the entries take in this process, as counted by the two constants
            above (`tests/service/batching/test_memo.py` compares them with what Python allocates).
    """

    def __init__(self, max_bytes: int) -> None:
        self.num_hits = 0
        self.num_misses = 0
        self.num_evictions = 0
        self.num_bytes = 0
        self._max_bytes = max_bytes
        self._scores: OrderedDict[bytes, Score] = OrderedDict()

    def __len__(self) -> int:
        return len(self._scores)

    def get(self, item: Item) -> Score | None:
        """The score of these very ids and span, if it is still known."""
        score = None if item.want_tokens else self._scores.get(item.digest)
        if score is not None:
            self.num_hits += 1
            self._scores.move_to_end(item.digest)
        return score

    def put(self, item: Item, score: Score) -> None:
        """Keeps what was just computed, unless it has token logits or is not finite.

        The first score of these ids stays: whoever asks again gets the number that was answered.
        """
        if item.want_tokens or not score.is_finite:
            return
        self.num_misses += 1
        if item.digest in self._scores:
            return
        self._scores[item.digest] = score
        self.num_bytes += _size(score)
        while self.num_bytes > self._max_bytes:
            _, oldest = self._scores.popitem(last=False)
            self.num_bytes -= _size(oldest)
            self.num_evictions += 1

    def clear(self) -> None:
        """Forgets everything: what was computed is in doubt."""
        self._scores.clear()
        self.num_bytes = 0


def _size(score: Score) -> int:
    return ENTRY_BYTES + READING_BYTES * len(score.readings)
