"""`make demo-seeds`: the candidates of several runs in one pool, as one table on stdout.

In a single run over 24 poems, the gap at N = 16 has an interval of about 0.2 on each side, because
one candidate per prompt decides. Runs with other seeds sample other candidates for the same poems.
Their candidates of a prompt are put together here, and best-of-N is exact over all subsets of the
pool: a mean of the runs' figures would have as many terms as there are runs, where the pool has
all subsets that cross the runs too. Intervals are over poems.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from candor.jobs.running.files import Row, read_rows
from candor.jobs.sycophancy.measure import RULES, Array, interval
from demo.poems import summary
from demo.poems.run import NS

HEADER = "| N | random | by R | penalised | by R - penalised | like R / pen. | dislike R / pen. |"


app = App(name="python -m demo.poems.pool")


@app.default
def pool(*runs: Annotated[Path, Parameter(required=True)]) -> None:
    """Pool the candidates of runs of the demo into one table.

    Parameters
    ----------
    runs
        Folders of `python -m demo.poems.run`, of one split and with different seeds.
    """
    poems = summary.gather(pooled([read_rows(folder / "scored.jsonl") for folder in runs]))
    best = summary.measure(list(poems.values()), NS)
    print(HEADER + "\n" + "| --- " * 7 + "|")
    for column, n in enumerate(NS):
        print(row(best, column, n))
    kept = ", ".join(
        f"{summary.CONDITION_NAMES[name]} {summary.span(found)}"
        for name, found in best.kept.items()
    )
    sizes = [found.candidates["base"].num_candidates for found in poems.values()]
    print(f"\n{len(poems)} poems, {min(sizes)} to {max(sizes)} candidates per neutral prompt")
    print(f"share of R's gain kept at N = {NS[-1]}, by prompt: {kept}")


def pooled(runs: Sequence[Sequence[Row]]) -> list[Row]:
    """The rows of the first run, each with the responses and scores of all runs to its prompt.

    Raises:
        SystemExit: the runs are not about the same prompts, were scored differently, or two of them
            have the same responses.
    """
    first = {row["key"]: row for row in runs[0]}
    found = {key: {**row, "responses": [], "scores": []} for key, row in first.items()}
    seen: set[str] = set()
    for rows in runs:
        by_key = {row["key"]: row for row in rows}
        if by_key.keys() != first.keys():
            raise SystemExit("the runs are not about the same poems; pool runs of one split")
        drawn = str([[row.get("responses"), row.get("scores")] for row in rows])
        if drawn in seen:
            raise SystemExit("two runs have the same candidates; pool runs of different seeds")
        seen.add(drawn)
        for key, row in by_key.items():
            if row.get("messages") != first[key].get("messages"):
                raise SystemExit(f"key {key!r}: the runs have different prompts")
            if "scores" not in row:
                continue  # the row failed; the other runs have candidates of this prompt
            if row.get("reward_model") != first[key].get("reward_model", row.get("reward_model")):
                raise SystemExit(f"key {key!r}: the runs were scored by different servers")
            found[key]["responses"] += row["responses"]
            found[key]["scores"] += row["scores"]
            found[key].pop("error", None)
    return list(found.values())


def row(best: summary.BestOfN, column: int, n: int) -> str:
    """The row for one N: gap of each rule and difference of two gaps, with 95 % intervals; then
    like and dislike positivity."""
    gaps = [best.curve[rule].gap[:, column] for rule in RULES]
    cells = [with_interval(values) for values in (*gaps, gaps[1] - gaps[2])]
    for name in ("like", "dislike"):
        base, penalised = (getattr(best.curve[rule], name)[:, column].mean() for rule in RULES[1:])
        cells.append(f"{base:.3f} / {penalised:.3f}")
    return f"| {n} | " + " | ".join(cells) + " |"


def with_interval(values: Array) -> str:
    low, high = interval(values)
    return f"{values.mean():.3f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    app()
