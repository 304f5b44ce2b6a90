"""The demo's tables of docs/results.md, from the rows that are kept in docs/raw.

    python -m demo.results

Nothing is scored or sampled: the rows hold the responses and their numbers, and the arithmetic is
that of `make demo` and `make demo-poems`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cyclopts import App

from candor.flags import UsageError
from candor.jobs.compare.words import read_words
from candor.jobs.grounded.judged import judged_prompts
from candor.jobs.running.files import Row
from candor.probes import artifact
from demo.assets import ARTEFACTS, null_probes_of
from demo.commands import main
from demo.grounded import methods
from demo.grounded import summary as grounded
from demo.poems import summary as poems
from demo.raw import kept_rows
from demo.reward.model import Trunk
from demo.servers import PROBE

RAW = Path("docs/raw")

app = App(name="python -m demo.results")


@app.default
def results(*, raw: Path = RAW, pictures: Path = Path("docs/pictures")) -> None:
    """Print every table that is made of kept rows, and draw the methods' figure.

    Parameters
    ----------
    raw
        Folder of the kept rows.
    pictures
        Folder of the figure.
    """
    if not any((raw / name).is_file() for name, _, _ in KEPT):
        raise UsageError(f"{raw}: holds no kept rows ({', '.join(name for name, _, _ in KEPT)})")
    for name, trunk, tables in KEPT:
        path = raw / name
        if path.is_file():
            print(f"{path}\n")
            print("\n\n".join(tables(path, kept_rows(path), trunk)) + "\n")
    answers, projected = raw / "grounded.jsonl.gz", raw / "grounded-projected.jsonl.gz"
    if answers.is_file() and projected.is_file():
        print(f"{answers} and {projected}\n\n{methods_table(answers, projected, pictures)}\n")


def methods_table(answers: Path, projected: Path, pictures: Path) -> str:
    """The ways to use a probe as a table, and as methods.svg in the folder of pictures."""
    shipped = ARTEFACTS / "lora"
    by_r, found = methods.measure_methods(
        judged_prompts(answers, kept_rows(answers)),
        PROBE,
        artifact.load(shipped / "probes" / PROBE).card,
        {row["key"]: row["base_reward"] for row in kept_rows(projected)},
        null_probes_of(shipped),
    )
    methods.write_figure(pictures / "methods.svg", by_r, found)
    return methods.markdown(by_r, found)


def grounded_tables(path: Path, rows: Sequence[Row], trunk: Trunk) -> list[str]:
    """The choice at the largest N by every arm; along N; and on unseen domains."""
    shipped = ARTEFACTS / trunk
    words = read_words(shipped / "probes" / PROBE / "words.json")
    found = grounded.measure(judged_prompts(path, rows), null_probes_of(shipped), words)
    return [grounded.markdown(found), grounded.markdown_along(found), grounded.verdict(found)]


def poem_tables(_path: Path, rows: Sequence[Row], _trunk: Trunk) -> list[str]:
    """The gap and its two sides by every rule, along N."""
    return poems.markdown(poems.measure(list(poems.gather(rows).values()), poems.NS))


KEPT: tuple[tuple[str, Trunk, Callable[[Path, Sequence[Row], Trunk], list[str]]], ...] = (
    ("grounded.jsonl.gz", "lora", grounded_tables),
    ("grounded-frozen.jsonl.gz", "frozen", grounded_tables),
    ("poems.jsonl.gz", "lora", poem_tables),
)
"""File of the kept rows, trunk of the reward model that scored them, and the tables."""


if __name__ == "__main__":
    main(app)
