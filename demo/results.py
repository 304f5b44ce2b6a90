"""The demo's tables of docs/results.md, from the rows that are kept in docs/raw.

    python -m demo.results

Nothing is scored or sampled: the rows hold the responses and their numbers, and the arithmetic is
that of `make demo` and `make demo-poems`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cyclopts import App

from candor.jobs.compare.words import read_words
from candor.jobs.grounded.judged import judged_prompts
from candor.jobs.running.files import Row
from demo.assets import ARTEFACTS, null_probes_of
from demo.grounded import summary as grounded
from demo.poems import summary as poems
from demo.raw import kept_rows
from demo.servers import PROBE

RAW = Path("docs/raw")

app = App(name="python -m demo.results")


@app.default
def results(*, raw: Path = RAW) -> None:
    """Print every table that is made of kept rows.

    Parameters
    ----------
    raw
        Folder of the kept rows.
    """
    parts = {"grounded.jsonl.gz": grounded_tables, "poems.jsonl.gz": poem_tables}
    for name, tables in parts.items():
        path = raw / name
        if path.is_file():
            print(f"{path}\n")
            print("\n\n".join(tables(path, kept_rows(path))) + "\n")


def grounded_tables(path: Path, rows: Sequence[Row]) -> list[str]:
    """The choice at the largest N by every arm; along N; and on unseen domains."""
    words = read_words(ARTEFACTS / PROBE / "words.json")
    found = grounded.measure(judged_prompts(path, rows), null_probes_of(ARTEFACTS), words)
    return [grounded.markdown(found), grounded.markdown_along(found), grounded.verdict(found)]


def poem_tables(path: Path, rows: Sequence[Row]) -> list[str]:
    """The gap and its two sides by every rule, along N."""
    return poems.markdown(poems.measure(list(poems.gather(rows).values()), poems.NS))


if __name__ == "__main__":
    app()
