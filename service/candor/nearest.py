"""The nearest of the words that exist, for a word that does not."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The word that is most like `word`; None where none is near."""
    return next(iter(get_close_matches(word, list(words), n=1)), None)


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """`; did you mean NEAREST?`, or nothing where no word is near."""
    near = nearest(word, words)
    return f"; did you mean {near}?" if near else ""
