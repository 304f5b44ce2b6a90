"""Properties of replies that the tests of the free-text kinds check: length and opening."""

from __future__ import annotations

from collections.abc import Iterable

from candor.probes.fitting.data import Row
from candor.probes.fitting.evaluate import auroc


def num_words(text: str) -> int:
    return len(text.split())


def opening(text: str) -> str:
    """The first two words, without case and punctuation."""
    return " ".join(word.strip(".,:;!?").lower() for word in text.split()[:2])


def length_auroc(ones: Iterable[str], zeros: Iterable[str]) -> float:
    """AUROC of a probe that only counts words: 0.5 if length tells nothing."""
    texts = [(text, 1) for text in ones] + [(text, 0) for text in zeros]
    return auroc([num_words(text) for text, _ in texts], [label for _, label in texts])


def responses(rows: Iterable[Row], label: int) -> list[str]:
    return [row.response for row in rows if row.label == label]
