"""Rotten Tomatoes sentence polarity -> statements for `objective-choice`, as the paper uses it.

Pang & Lee (2005): 5,331 positive and 5,331 negative review sentences. There are two published
forms:

- `rt-polarity.pos` and `rt-polarity.neg`, one sentence per line; the encoding is UTF-8 in some
  copies (github `nltk/nltk_data`, `packages/corpora/sentence_polarity.zip`) and Latin-1 in others;
- the hub's `cornell-movie-review-data/rotten_tomatoes`, `{train,validation,test}.parquet` with
  `text` and `label` (1 = positive). Reading it needs pyarrow, which Candor does not install.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from candor.probes.fitting.data import Row
from candor.probes.kinds.facts import Statement, fact_rows
from candor.probes.kinds.public.source import decoded

Truth = Literal["positive", "negative"]
TRUTH_OF: dict[str, Truth] = {".pos": "positive", ".neg": "negative"}


def review_rows(paths: Sequence[Path], seed: int) -> list[Row]:
    """Four rows per sentence (`facts.fact_rows`).

    Raises:
        ValueError: as `statements`.
    """
    return fact_rows(statements(paths), seed=seed)


def statements(paths: Sequence[Path]) -> list[Statement]:
    """The sentences of the files, each text once.

    Raises:
        ValueError: a file has another form, a line has no text, a parquet file cannot be read, or
            all sentences have one sentiment.
    """
    found: dict[str, Statement] = {}
    for path in paths:
        lines = _parquet(path) if path.suffix == ".parquet" else _sentences(path)
        for number, text, truth in lines:
            if not text.strip():
                raise ValueError(f"{path}:{number}: text: empty")
            ident = f"rotten-tomatoes-{path.stem}{path.suffix}-{number}"
            entry = Statement(id=ident, form="review", text=text.strip(), truth=truth)
            found.setdefault(entry.text, entry)
    truths = {entry.truth for entry in found.values()}
    if truths != {"positive", "negative"}:
        raise ValueError(
            f"{paths[0]}: sentences of one sentiment alone ({sorted(truths)}): give the folder "
            "with rt-polarity.pos and rt-polarity.neg"
        )
    return list(found.values())


def _sentences(path: Path) -> Iterator[tuple[int, str, Truth]]:
    if path.suffix not in TRUTH_OF:
        raise ValueError(f"{path}: name: expected .pos, .neg or .parquet")
    lines = decoded(path.read_bytes()).split("\n")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, line, TRUTH_OF[path.suffix]


def _parquet(path: Path) -> Iterator[tuple[int, str, Truth]]:
    try:
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise ValueError(
            f"{path}: parquet: pip install pyarrow, or give a folder with rt-polarity.pos and "
            "rt-polarity.neg"
        ) from None
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise ValueError(f"{path}: parquet: {str(error).splitlines()[0]}") from None
    for column in ("text", "label"):
        if column not in table.column_names:
            raise ValueError(f"{path}: {column}: no such column")
    for number, row in enumerate(table.to_pylist(), start=1):
        if not isinstance(row["text"], str) or row["label"] not in (0, 1):
            raise ValueError(f"{path}: row {number}: label: expected 0 or 1, and a text")
        yield number, row["text"], "positive" if row["label"] else "negative"
