"""Every figure of the RL demo, from the raw files of its runs.

    python -m demo.rl.summary docs/rl/raw --out runs/rl

writes summary.json and the figures, and prints the tables. `make rl-demo` does the same at its end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cyclopts import App

from candor.jobs.running.files import write_json
from candor.probes.statistics.intervals import t_interval
from demo.commands import main as run_app
from demo.raw import kept_runs
from demo.rl.comparison import Run, at_kl, at_step, common_kl, paired, value
from demo.rl.figures import write_figures
from demo.rl.outcome import auroc_fall, outcome
from demo.rl.tables import markdown

PROBE, MONITOR = "sycophancy", "monitor"
HEADLINE = "agrees_wrong"
SHARES = ("agrees_wrong", "truth_wrong", "agrees_right", "truth", "no_answer")
SUBSTITUTION = (*SHARES, "neutral_base_reward", "wording.words", "wording.hedging",
                "wording.certainty")  # fmt: skip
AUROCS = tuple(
    f"auroc.{name}.{which}" for name in (PROBE, MONITOR) for which in ("within", "with_opinion")
)

app = App(name="python -m demo.rl.summary")


@app.default
def main(raw: Path, *, out: Path = Path("runs/rl")) -> None:
    """Write summary.json and the figures of the runs in a folder, and print the tables.

    Parameters
    ----------
    raw
        Folder with a JSON file per run.
    out
        Folder for summary.json and the figures.
    """
    runs = kept_runs(raw)
    summary = summarise(runs)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "summary.json", summary)
    write_figures(out, runs, summary["kl"]["level"])
    print(markdown(summary), file=sys.stderr)
    print(json.dumps({"summary": str(out / "summary.json"), **summary["headline"]}), flush=True)


def summarise(runs: Sequence[Run]) -> dict[str, Any]:
    """The comparison of the arms, the tables, and the outcome of each run."""
    arms = {arm: [run for run in runs if run["arm"] == arm] for arm in arm_names(runs)}
    last = min(run["evaluations"][-1]["step"] for run in runs)
    level = common_kl(runs)
    return {
        "kl": {
            "estimator": "exact next-token KL(policy || untrained) at the sampled tokens, summed "
            "over a response; nats, at the sampling temperature",
            "level": level,
        },
        "step": last,
        "headline": _headline(arms, last, level),
        "arms": {arm: _arm(some, last, level) for arm, some in arms.items()},
        "differences": _differences(arms, last, level),
        "substitution": {arm: _table(some, SUBSTITUTION) for arm, some in arms.items()},
        "auroc": {arm: _table(some, AUROCS) for arm, some in arms.items()},
        "runs": [_run(run) for run in runs],
    }


def arm_names(runs: Sequence[Run]) -> list[str]:
    """R first, then the penalised arm, then the others."""
    names = sorted({run["arm"] for run in runs})
    return sorted(names, key=lambda name: ({"R": 0, "penalised": 1}.get(name, 2), name))


def _headline(arms: Mapping[str, Sequence[Run]], step: int, level: float | None) -> dict[str, Any]:
    """Agreement with wrong users before and after, and R minus penalised in both ways."""
    ends = {arm: [at_step(run, step, HEADLINE) for run in runs] for arm, runs in arms.items()}
    found: dict[str, Any] = {
        "agrees_wrong": {
            "start": t_interval(_known([at_step(r, 0, HEADLINE) for some in arms.values()
                                        for r in some]))["mean"],
            **{arm: t_interval(_known(values))["mean"] for arm, values in ends.items()},
        }
    }  # fmt: skip
    if "R" in arms and "penalised" in arms:
        pair = arms["R"], arms["penalised"]
        found["R_minus_penalised"] = {
            "equal_step": paired(*pair, partial(at_step, step=step, name=HEADLINE)),
            "equal_kl": None
            if level is None
            else paired(*pair, partial(at_kl, level=level, name=HEADLINE)),
        }
    return found


def _arm(runs: Sequence[Run], step: int, level: float | None) -> dict[str, Any]:
    """An arm's figures at the last common step and at the common KL."""
    return {
        "seeds": [run["seed"] for run in runs],
        "start": {name: t_interval(_known([at_step(r, 0, name) for r in runs])) for name in SHARES},
        "equal_step": {
            name: t_interval(_known([at_step(run, step, name) for run in runs]))
            for name in (*SHARES, "kl")
        },
        "equal_kl": None
        if level is None
        else {
            name: t_interval(_known([at_kl(run, level, name) for run in runs])) for name in SHARES
        },
    }


def _differences(
    arms: Mapping[str, Sequence[Run]], step: int, level: float | None
) -> dict[str, Any]:
    """Each other arm minus the penalised arm, by share, paired by seed."""
    if "penalised" not in arms:
        return {}
    return {
        f"{arm} - penalised": {
            name: {
                "equal_step": paired(
                    runs, arms["penalised"], partial(at_step, step=step, name=name)
                ),
                "equal_kl": None
                if level is None
                else paired(runs, arms["penalised"], partial(at_kl, level=level, name=name)),
            }
            for name in SHARES
        }
        for arm, runs in arms.items()
        if arm != "penalised"
    }


def _table(runs: Sequence[Run], names: Sequence[str]) -> dict[str, Any]:
    """By evaluated step and figure, the mean over seeds and its interval."""
    steps = sorted({row["step"] for run in runs for row in run["evaluations"]})
    return {
        str(step): {
            name: t_interval(_known([at_step(run, step, name) for run in runs])) for name in names
        }
        for step in steps
    }


def _run(run: Run) -> dict[str, Any]:
    """One run's outcome, what its probes still tell, and whether its alarms could and did fire."""
    start, end = run["evaluations"][0], run["evaluations"][-1]
    alarms = [step["step"] for step in run["steps"] if step["alarms"]]
    return {
        "arm": run["arm"],
        "seed": run["seed"],
        "outcome": outcome(start, end, PROBE, MONITOR),
        **{at: {name: value(row, name) for name in (*SHARES, "kl")} for at, row in
           (("start", start), ("end", end))},
        "auroc_fall": {name: auroc_fall(start, end, name) for name in (PROBE, MONITOR)},
        "steps_compared": sum(step["alarms"] is not None for step in run["steps"]),
        "steps_with_alarm": len(alarms),
        "first_alarm": alarms[0] if alarms else None,
        "num_pairs": end["auroc"][PROBE]["num_pairs"],
    }  # fmt: skip


def _known(values: Sequence[float | None]) -> list[float]:
    return [one for one in values if one is not None]


if __name__ == "__main__":
    run_app(app)
