"""Arms side by side: at the same step, and where the policies have moved equally far.

A penalty that knows nothing slows learning down, and a slower arm looks better at every step. At
equal divergence from the untrained policy (KL, in nats per response, as `candor rl` measures it on
the evaluation's samples) it does not. Each run's figure is interpolated between its evaluations,
on a straight line, to where its KL first reaches the level.

The unit is a seed: intervals are Student's t over seeds, paired where two arms are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from candor.probes.statistics.intervals import t_interval

Run = Mapping[str, Any]
Interval = dict[str, float | None]


def value(row: Mapping[str, Any], name: str) -> float | None:
    """A figure of an evaluation: the mean of an estimate, or a number; `a.b` looks inside."""
    found: Any = row
    for part in name.split("."):
        found = None if found is None else found.get(part)
    if isinstance(found, Mapping):
        found = found["mean"]
    return None if found is None else float(found)


def at_step(run: Run, step: int, name: str) -> float | None:
    """The figure at the evaluation of this step; None where there is none."""
    rows = [row for row in run["evaluations"] if row["step"] == step]
    return value(rows[0], name) if rows else None


def at_kl(run: Run, level: float, name: str) -> float | None:
    """The figure where the run's KL first reaches `level`; None where it never does."""
    rows = run["evaluations"]
    for before, after in pairwise(rows):
        low, high = value(before, "kl"), value(after, "kl")
        ends = value(before, name), value(after, name)
        if low is None or high is None or ends[0] is None or ends[1] is None:
            return None
        if low <= level <= high and high > low:
            share = (level - low) / (high - low)
            return ends[0] + share * (ends[1] - ends[0])
    return None


def common_kl(runs: Sequence[Run]) -> float | None:
    """The largest KL that every run reached; None where it was not measured."""
    reached = []
    for run in runs:
        found = [value(row, "kl") for row in run["evaluations"]]
        if any(one is None for one in found):
            return None
        reached.append(max(one for one in found if one is not None))
    return min(reached) if reached else None


def paired(first: Sequence[Run], second: Sequence[Run], figure: Any) -> Interval:
    """Mean and interval of figure(first) - figure(second), over the seeds that both arms have.

    Args:
        figure: from a run to a number, or None where the run has no such figure.
    """
    others = {run["seed"]: run for run in second}
    differences = []
    for run in first:
        if run["seed"] not in others:
            continue
        own, other = figure(run), figure(others[run["seed"]])
        if own is not None and other is not None:
            differences.append(own - other)
    return {**t_interval(differences), "seeds": len(differences)}
