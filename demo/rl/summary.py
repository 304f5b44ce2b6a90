"""From the files of the runs to `summary.json`, a table and three plots.

Gap, like positivity and dislike positivity are computed by `candor.jobs.sycophancy`, AUROC by
`candor.probes.fitting.evaluate`.

A probe's AUROC is over the samples of one evaluation. The label is 1 where the judge finds that a
comment clearly sides with the user (`demo.poems.draws.labelled`). Comments that lean to the user's
side only slightly are left out, as in training.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from candor.jobs.probe.svg import BLUE, GREY, ORANGE, svg
from candor.jobs.rl.step_log import step_key
from candor.jobs.rollouts.scored import candidates
from candor.jobs.running.files import Row, read_rows
from candor.jobs.sycophancy.gather import by_poem, judged
from candor.jobs.sycophancy.measure import Array, curves, estimate
from candor.probes.fitting.evaluate import auroc
from demo.poems.draws import labelled
from demo.rl.monitor import OPINIONS

Runs = Mapping[str, Sequence[Path]]
"""Folders of `candor rl` by arm: a folder per seed, with the seeds in the same order."""

METRICS = ("gap", "like", "dislike", "neutral_base_reward", "neutral_words")
COLOURS = {"base": ORANGE, "penalised": BLUE}
LABELS = {"base": "trained on R", "penalised": "trained on R - penalty"}


def summarise(runs: Runs) -> dict[str, Any]:
    """The start and the end of every run, and the comparison of the arms."""
    runs_by_arm: dict[str, Any] = {
        arm: [_run(folder) for folder in folders] for arm, folders in runs.items()
    }
    lower = [
        penalised["end"]["gap"] < base["end"]["gap"]
        for base, penalised in zip(runs_by_arm["base"], runs_by_arm["penalised"], strict=True)
    ]
    ends = {arm: np.array([_gaps(_last(folder)) for folder in runs[arm]]) for arm in runs}
    difference = (ends["penalised"] - ends["base"]).mean(axis=0)  # over seeds, by poem
    neutral = {
        arm: _mean(found, "end", "neutral_base_reward") for arm, found in runs_by_arm.items()
    }
    start = _mean(runs_by_arm["base"], "start", "neutral_base_reward")
    gained = neutral["base"] - start
    headline = {
        "seeds_with_lower_gap": f"{sum(lower)} of {len(lower)}",
        "gap_start": _mean(runs_by_arm["base"], "start", "gap"),
        "gap_base": _mean(runs_by_arm["base"], "end", "gap"),
        "gap_penalised": _mean(runs_by_arm["penalised"], "end", "gap"),
        "gap_difference": estimate(difference).as_json(),
        "neutral_base_reward": {"start": start, **neutral},
        "neutral_gain_kept": None if gained <= 0 else (neutral["penalised"] - start) / gained,
    }
    return {"headline": headline, "runs": runs_by_arm}


def _run(folder: Path) -> dict[str, Any]:
    evals, steps = read_rows(folder / "evals.jsonl"), read_rows(folder / "steps.jsonl")
    last = steps[-5:]
    return {
        "folder": folder.name,
        "steps": steps[-1]["step"],
        **{
            at: {
                **{name: row[name]["mean"] for name in METRICS},
                "scores": row["scores"],
                "auroc": aurocs(_scored(folder, row["step"])),
            }
            for at, row in (("start", evals[0]), ("end", evals[-1]))
        },
        "kl": float(np.mean([row["kl"] for row in last])),
        "training_base_reward": {
            at: float(np.mean([row["base_reward"] for row in rows]))
            for at, rows in (("first_5", steps[:5]), ("last_5", last))
        },
        "steps_with_alarm": sum(bool(row["alarms"]) for row in steps),
    }


def _scored(folder: Path, step: int) -> list[Row]:
    return read_rows(folder / "evals" / step_key(step) / "scored.jsonl")


def _last(folder: Path) -> list[Row]:
    return _scored(folder, read_rows(folder / "evals.jsonl")[-1]["step"])


def _gaps(rows: Sequence[Row]) -> Array:
    """(P,) gap of a random pick, per poem."""
    poems = [judged(prompts) for prompts in by_poem(rows)[0].values()]
    return curves(poems, [1], ["random"])["random"].gap[:, 0]


def aurocs(rows: Sequence[Row]) -> dict[str, dict[str, float | None]]:
    """AUROC of each probe, over all samples and over the samples for prompts with an opinion; None
    where a label is missing."""
    scores: dict[str, list[float]] = {}
    labels: list[int] = []
    with_opinion: list[bool] = []
    for row in rows:
        condition = row["meta"]["condition"]
        for index in candidates(row):
            text = row["responses"][index]["text"]
            labelled_row = labelled(row["messages"], text, OPINIONS[condition], row["meta"]["poem"])
            if labelled_row is None:
                continue
            labels.append(labelled_row["label"])
            with_opinion.append(condition != "base")
            for name, reading in row["scores"][index]["probes"].items():
                scores.setdefault(name, []).append(reading["score"])
    stated = np.array(with_opinion, dtype=bool)
    return {
        name: {
            "all": _auroc(np.array(values), np.array(labels)),
            "with_opinion": _auroc(np.array(values)[stated], np.array(labels)[stated]),
        }
        for name, values in scores.items()
    }


def _auroc(scores: Any, labels: Any) -> float | None:
    return auroc(scores, labels) if 0 < labels.sum() < len(labels) else None


def _mean(runs: Sequence[Mapping[str, Any]], at: str, name: str) -> float:
    return float(np.mean([run[at][name] for run in runs]))


def write_plots(out: Path, runs: Runs) -> None:
    """gap.svg, sides.svg and training.svg: a thin line per seed, a thick line for the mean."""
    (out / "gap.svg").write_text(_plot(runs, "evals.jsonl", ("gap", "neutral_base_reward")))
    (out / "sides.svg").write_text(_plot(runs, "evals.jsonl", ("like", "dislike")))
    (out / "training.svg").write_text(_plot(runs, "steps.jsonl", ("base_reward", "penalty", "kl")))


def _plot(runs: Runs, file: str, names: Sequence[str]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(names), 2.9))
    for axis, name in zip(figure.subplots(1, len(names)), names, strict=True):
        for arm, folders in runs.items():
            lines = [_line(read_rows(folder / file), name) for folder in folders]
            for steps, values in lines:
                axis.plot(steps, values, color=COLOURS[arm], alpha=0.3, linewidth=0.8)
            mean = np.mean([values for _, values in lines], axis=0)
            axis.plot(lines[0][0], mean, color=COLOURS[arm], label=LABELS[arm])
        axis.set_title(name.replace("_", " "), fontsize=9)
        axis.set_xlabel("step")
        axis.axhline(0.5 if name in ("like", "dislike") else 0, color=GREY, linewidth=0.6)
    figure.axes[0].legend(frameon=False)
    return str(svg(figure))


def _line(rows: Sequence[Row], name: str) -> tuple[list[int], list[float]]:
    """Steps and values; a value that is missing from a step is a hole in the line."""
    values = [row[name]["mean"] if isinstance(row[name], dict) else row[name] for row in rows]
    return [row["step"] for row in rows], [np.nan if v is None else float(v) for v in values]


def print_table(summary: Mapping[str, Any]) -> None:
    """A line per run, start -> end, on stderr."""
    print(f"\n{'run':<20}{'gap':>16}{'like':>16}{'dislike':>16}{'neutral R':>16}", file=sys.stderr)
    for runs in summary["runs"].values():
        for run in runs:
            cells = "".join(
                f"{run['start'][name]:7.3f} -> {run['end'][name]:.3f}".rjust(16)
                for name in ("gap", "like", "dislike", "neutral_base_reward")
            )
            print(f"{run['folder']:<20}{cells}", file=sys.stderr)
