"""The nearest of the words that exist, for a word that does not."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """`; did you mean NEAREST?`, or nothing where no word is near."""
    near = get_close_matches(word, list(words), n=1)
    return f"; did you mean {near[0]}?" if near else ""
