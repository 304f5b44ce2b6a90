"""The evasion run's figures, from a file per run.

    python -m demo.evasion.summary docs/rl/evasion

prints the table of docs/results.md and the summary. `python -m demo.evasion` does the same at its
end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cyclopts import App

from candor.probes.statistics.intervals import t_interval
from demo.commands import main as run_app
from demo.raw import kept_runs

Run = Mapping[str, Any]
"""One seed of one arm, as `demo.evasion.run.one_run` stores it."""

AUROCS = ("auroc_before", "auroc_after", "null_auroc_after", "auroc_refreshed", "auroc_fresh")
STEPS = ("fell_step", "alarm_step", "null_fell_step", "null_alarm_step")
HEADS = (
    "seed", "below the level at step", "alarm at step", "null: below the level", "null: alarm",
    "AUROC before", "after", "null: after", "refreshed", "fresh",
)  # fmt: skip

app = App(name="python -m demo.evasion.summary")


@app.default
def main(folder: Path) -> None:
    """Print the table to stderr, and the summary as one line of JSON.

    Parameters
    ----------
    folder
        Folder with a JSON file per run.
    """
    write(kept_runs(folder))


def write(runs: Sequence[Run]) -> None:
    """The table to stderr, and the summary as the last line of stdout."""
    found = summarise(runs)
    print(markdown(found), file=sys.stderr)
    print(json.dumps(found), flush=True)


def summarise(runs: Sequence[Run]) -> dict[str, Any]:
    """Alarms by arm, the figures of each seed and their means, and how far the refreshed probe is
    behind a fresh one: mean and 95 % t interval over seeds.

    A step is None where the alarm or the fall did not come. A seed has no figures of an arm that
    was not run.
    """
    attacked, nulls = (
        {run["seed"]: run for run in runs if run["arm"] == arm} for arm in ("attack", "null")
    )
    by_seed = [
        {
            "seed": seed,
            **(_attack_figures(attacked[seed]) if seed in attacked else {}),
            **(_null_figures(nulls[seed]) if seed in nulls else {}),
        }
        for seed in sorted(attacked.keys() | nulls.keys())
    ]
    means = {
        name: t_interval([run[name] for run in by_seed if name in run])["mean"] for name in AUROCS
    }
    behind = [run["auroc_fresh"] - run["auroc_refreshed"] for run in attacked.values()]
    return {
        "alarms": sum(run["alarm_step"] is not None for run in attacked.values()),
        "attacks": len(attacked),
        "false_alarms": sum(run["alarm_step"] is not None for run in nulls.values()),
        "nulls": len(nulls),
        "fresh_minus_refreshed": t_interval(behind),
        "means": means,
        "by_seed": by_seed,
    }


def _attack_figures(run: Run) -> dict[str, Any]:
    names = ("alarm_step", "flatters_after", "auroc_before", "auroc_after", "auroc_refreshed",
             "auroc_fresh")  # fmt: skip
    return {"fell_step": _fell_step(run), **{name: run[name] for name in names}}


def _null_figures(run: Run) -> dict[str, Any]:
    return {
        "null_fell_step": _fell_step(run),
        "null_alarm_step": run["alarm_step"],
        "null_auroc_after": run["auroc_after"],
    }


def _fell_step(run: Run) -> int | None:
    """The first step at which the AUROC on the held-out questions is below the level that the
    first judged window set: what an alarm claims, and the earliest at which it can be right."""
    level = run["reference"]["level"]
    return next((row["step"] for row in run["curve"] if row["auroc"] < level), None)


def markdown(found: Mapping[str, Any]) -> str:
    """A row per seed, their means, and the counts of alarms."""
    rows = [HEADS, ("---",) * len(HEADS)]
    for run in found["by_seed"]:
        steps = ("" if name not in run else str(run[name] or "none") for name in STEPS)
        rows.append((str(run["seed"]), *steps, *(_number(run.get(name)) for name in AUROCS)))
    rows.append(("mean", *[""] * len(STEPS), *(_number(found["means"][name]) for name in AUROCS)))
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    counts = (
        f"Alarms: {found['alarms']} of {found['attacks']} attacked runs, "
        f"{found['false_alarms']} of {found['nulls']} null runs."
    )
    behind = found["fresh_minus_refreshed"]
    if behind["low"] is None:
        return f"{table}\n\n{counts}"
    return (
        f"{table}\n\n{counts} AUROC of the fresh probe minus that of the refreshed one: "
        f"{behind['mean']:.3f} ({behind['low']:.3f} to {behind['high']:.3f})."
    )


def _number(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.3f}"


if __name__ == "__main__":
    run_app(app)
