"""`make demo-seeds`: several runs of the demo read together, as one table on stdout.

A single run of 24 poems has an interval of about 0.2 on each side of its gap at N = 16, where one
candidate a prompt decides. Runs with other seeds draw other candidates from the same poems; here
each poem's figures are averaged over the runs first, and the intervals are over poems.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from candor.jobs.sycophancy.measure import RULES, Array, Curve, Poem, interval
from demo import summary as tell
from demo.run import NS

HEADER = "| N | random | by R | penalised | by R - penalised | like R / pen. | dislike R / pen. |"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Pool runs of the demo.")
    parser.add_argument("runs", type=Path, nargs="+", help="folders with a scored.jsonl each")
    gathered = [read(folder) for folder in parser.parse_args(argv).runs]
    if any(list(poems) != list(gathered[0]) for poems in gathered):
        raise SystemExit("the runs are not about the same poems; pool runs of one split")
    told = [tell.numbers(list(poems.values()), NS) for poems in gathered]
    runs = [one.curve for one in told]
    print(HEADER + "\n" + "| --- " * 7 + "|")
    for column, n in enumerate(NS):
        print(row(runs, column, n))
    kept = ", ".join(f"{one.kept:.3f}" for one in told)
    print(f"\nneutral R kept at N = {NS[-1]}, run by run: {kept}")
    return 0


def read(folder: Path) -> dict[str, Poem]:
    """One run's candidates by poem, in the order of the prompts."""
    lines = (folder / "scored.jsonl").read_text(encoding="utf-8").splitlines()
    return tell.gather([json.loads(line) for line in lines])


def row(runs: Sequence[dict[str, Curve]], column: int, n: int) -> str:
    """One N: mean gap and 95 % interval a rule, the paired difference, like and dislike apart."""

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
    sys.exit(main())
