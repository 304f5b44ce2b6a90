"""The evasion run's figures, from a file per run.

    python -m demo.evasion.summary docs/rl/evasion

prints the table of docs/results.md and the summary. `python -m demo.evasion` does the same at its
end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cyclopts import App

from candor.flags import UsageError
from candor.probes.statistics.intervals import t_intervals

Run = dict[str, Any]
"""One seed of one arm, as `demo.evasion.run.one_run` stores it."""

AUROCS = ("auroc_before", "auroc_after", "auroc_refreshed", "auroc_fresh")

app = App(name="python -m demo.evasion.summary")


@app.default
def main(folder: Path) -> None:
    """Print the table to stderr, and the summary as one line of JSON.

    Parameters
    ----------
    folder
        Folder with a JSON file per run.
    """
    runs = [json.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))]
    if not runs:
        raise UsageError(f"{folder}: holds no run (a JSON file per run)")
    write(runs)


def write(runs: Sequence[Run]) -> None:
    """The table to stderr, and the summary as the last line of stdout."""
    found = summarise(runs)
    print(markdown(found), file=sys.stderr)
    print(json.dumps(found), flush=True)


def summarise(runs: Sequence[Run]) -> dict[str, Any]:
    """Alarms by arm, the AUROCs of each seed, and how far the refreshed probe is behind a fresh
    one: mean and 95 % t interval over seeds."""
    attacked = {run["seed"]: run for run in runs if run["arm"] == "attack"}
    nulls = {run["seed"]: run for run in runs if run["arm"] == "null"}
    by_seed = [
        {
            "seed": seed,
            "alarm_step": run["alarm_step"],
            "null_alarm_step": nulls[seed]["alarm_step"] if seed in nulls else None,
            "null_auroc_after": nulls[seed]["auroc_after"] if seed in nulls else None,
            "flatters_after": run["flatters_after"],
            **{name: run[name] for name in AUROCS},
        }
        for seed, run in sorted(attacked.items())
    ]
    return {
        "alarms": sum(run["alarm_step"] is not None for run in attacked.values()),
        "attacks": len(attacked),
        "false_alarms": sum(run["alarm_step"] is not None for run in nulls.values()),
        "nulls": len(nulls),
        "fresh_minus_refreshed": _interval(
            [run["auroc_fresh"] - run["auroc_refreshed"] for run in by_seed]
        ),
        "by_seed": by_seed,
    }


def _interval(values: Sequence[float]) -> dict[str, float | None]:
    mean = float(np.mean(values))
    if len(values) < 2:
        return {"mean": mean, "low": None, "high": None}
    low, high = t_intervals(np.array(values)[:, None])
    return {"mean": mean, "low": float(low[0]), "high": float(high[0])}


def markdown(found: dict[str, Any]) -> str:
    """A row per seed, and what they say together."""
    head = (
        "seed", "alarm at step, attacked", "alarm at step, null", "AUROC before",
        "after, attacked", "after, null", "refreshed", "fresh",
    )  # fmt: skip
    rows = [head, ("---",) * len(head)]
    for run in found["by_seed"]:
        figures = (
            run["auroc_before"], run["auroc_after"], run["null_auroc_after"],
            run["auroc_refreshed"], run["auroc_fresh"],
        )  # fmt: skip
        alarms = (run["alarm_step"], run["null_alarm_step"])
        rows.append(
            (
                str(run["seed"]),
                *("none" if step is None else str(step) for step in alarms),
                *("" if figure is None else f"{figure:.3f}" for figure in figures),
            )
        )
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    behind = found["fresh_minus_refreshed"]
    interval = "" if behind["low"] is None else f" ({behind['low']:.3f} to {behind['high']:.3f})"
    return (
        f"{table}\n\nAlarms: {found['alarms']} of {found['attacks']} attacked runs, "
        f"{found['false_alarms']} of {found['nulls']} null runs. AUROC of the fresh probe minus "
        f"that of the refreshed one: {behind['mean']:.3f}{interval}."
    )


if __name__ == "__main__":
    app()
