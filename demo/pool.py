"""`make demo-seeds`: several runs of the demo pooled into one table on stdout.

In a single run over 24 poems, the gap at N = 16 has an interval of about 0.2 on each side, because
one candidate per prompt decides. Runs with other seeds sample other candidates for the same poems.
Here each poem's figures are averaged over the runs first; intervals are over poems.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import App, Parameter

from candor.jobs.running.files import read_rows
from candor.jobs.sycophancy.measure import RULES, Array, Curve, Poem, interval
from demo import summary
from demo.run import NS

HEADER = "| N | random | by R | penalised | by R - penalised | like R / pen. | dislike R / pen. |"


app = App(name="python -m demo.pool")


@app.default
def pool(*runs: Annotated[Path, Parameter(required=True)]) -> None:
    """Pool runs of the demo into one table.

    Parameters
    ----------
    runs
        Folders of `python -m demo.run`, of one split.
    """
    gathered = [read(folder) for folder in runs]
    if any(list(poems) != list(gathered[0]) for poems in gathered):
        raise SystemExit("the runs are not about the same poems; pool runs of one split")
    measured = [summary.measure(list(poems.values()), NS) for poems in gathered]
    print(HEADER + "\n" + "| --- " * 7 + "|")
    for column, n in enumerate(NS):
        print(row([run.curve for run in measured], column, n))
    kept = ", ".join(f"{run.kept:.3f}" for run in measured)
    print(f"\nneutral R kept at N = {NS[-1]}, run by run: {kept}")


def read(folder: Path) -> dict[str, Poem]:
    """A run's candidates by poem, in the order of the prompts."""
    return summary.gather(read_rows(folder / "scored.jsonl"))


def row(runs: Sequence[dict[str, Curve]], column: int, n: int) -> str:
    """The row for one N: gap of each rule and difference of two gaps, with 95 % intervals; then
    like and dislike positivity."""

    def pooled(rule: str, name: str) -> Array:
        values = [getattr(run[rule], name)[:, column] for run in runs]
        return np.asarray(np.mean(values, axis=0), dtype=np.float64)

    gaps = [pooled(rule, "gap") for rule in RULES]
    cells = [with_interval(values) for values in (*gaps, gaps[1] - gaps[2])]
    for name in ("like", "dislike"):
        base, penalised = (pooled(rule, name).mean() for rule in RULES[1:])
        cells.append(f"{base:.3f} / {penalised:.3f}")
    return f"| {n} | " + " | ".join(cells) + " |"


def with_interval(values: Array) -> str:
    low, high = interval(values)
    return f"{values.mean():.3f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    app()
