"""The goals of a run: ratios of two arms within one run, and whether each goal is met.

Each repetition gives a ratio, of two measurements of the same texts a few minutes apart. The result
is the median of the ratios, so that a machine that slows down during a run does not change it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Record = Mapping[str, Any]

OPEN_COMMON = "open/common"
"""The cell of the open loop in which both arms get the same rate."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on the `figure` of `arm` divided by the `figure` of `against`, in one cell.

    Attributes:
        cell: `workload/mode`.
        figure: `rate` is scores per second, `time` its inverse, `p99` the 99th percentile of an
            open loop. `limit` is the share of the limit, without `against`.
    """

    title: str
    cell: str
    figure: Literal["rate", "time", "limit", "p99"]
    arm: str
    against: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def arms(self) -> set[str]:
        return {self.arm, self.against} - {""}


GOALS = (
    Goal(
        "groups, single requests at concurrency 32: Candor / vLLM tuned",
        "groups/single",
        "rate",
        "packed",
        "vllm-tuned",
        at_least=1.5,
    ),
    Goal(
        "unique, single requests: Candor / vLLM tuned",
        "unique/single",
        "rate",
        "packed",
        "vllm-tuned",
        at_least=1.2,
    ),
    Goal("groups: Candor / padded loop", "groups/single", "rate", "packed", "padded", at_least=4.0),
    Goal("share of the limit, groups", "groups/single", "limit", "packed", "", at_least=0.85),
    Goal("share of the limit, unique", "unique/single", "limit", "packed", "", at_least=0.85),
    Goal(
        "without a compiler, groups: Candor / vLLM tuned",
        "groups/single",
        "rate",
        "fallback",
        "vllm-tuned",
        at_least=1.05,
    ),
    Goal(
        "without a compiler, unique: Candor / vLLM tuned",
        "unique/single",
        "rate",
        "fallback",
        "vllm-tuned",
        at_least=0.85,
    ),
    Goal(
        "8 probes at 8 layers against none, time",
        "groups/single",
        "time",
        "bare-8-probes",
        "bare",
        at_most=1.02,
    ),
    Goal(
        "server against the bare engine, groups as one batch, time",
        "groups/batch",
        "time",
        "packed",
        "bare",
        at_most=1.05,
    ),
    Goal(
        "server against the bare engine, groups as single requests, time",
        "groups/single",
        "time",
        "packed",
        "bare",
        at_most=1.05,
    ),
    Goal(
        "p99 at 60 % load, open loop: Candor / vLLM tuned",
        OPEN_COMMON,
        "p99",
        "packed",
        "vllm-tuned",
        at_most=1.0,
    ),
    Goal(
        "vLLM engine with probes against stock vLLM pooling, groups, time",
        "groups/single",
        "time",
        "candor-vllm",
        "vllm-tuned",
        at_most=1.05,
    ),
    Goal(
        "vLLM engine with probes against stock vLLM pooling, unique, time",
        "unique/single",
        "time",
        "candor-vllm",
        "vllm-tuned",
        at_most=1.05,
    ),
)


BEFORE = tuple(
    Goal(f"{cell}: Candor / Candor before", cell, "rate", "packed", "before", at_least=0.95)
    for cell in ("groups/single", "unique/single", "groups/batch", "unique/batch")
)
"""Goals of a run with `--before`. They judge the median: single repetitions differ by more."""


def repeated(cell: str, arm: str, goals: Sequence[Goal] = GOALS) -> bool:
    """Whether a goal needs this arm in this cell. If so, the arm is measured in every repetition,
    otherwise once."""
    return any(goal.cell == cell and arm in goal.arms for goal in goals)


def judge(goal: Goal, records: Sequence[Record]) -> dict[str, Any]:
    """The ratio of each repetition, their median (`value`), and whether it meets the goal. The last
    two are None where an arm was not measured."""
    by_repetition: dict[int, dict[str, Record]] = {}
    for record in records:
        if record["cell"] == goal.cell and record["arm"] in goal.arms:
            by_repetition.setdefault(record["repetition"], {})[record["arm"]] = record
    values = [
        _value(goal, arms)
        for arms in by_repetition.values()
        if arms.keys() == goal.arms and not any(record["errors"] for record in arms.values())
    ]
    value = statistics.median(values) if values else None
    met = None
    if value is not None:
        met = value >= goal.at_least if goal.at_least is not None else value <= (goal.at_most or 0)
    return {
        "goal": goal.title,
        "wanted": f">= {goal.at_least}" if goal.at_least is not None else f"<= {goal.at_most}",
        "value": None if value is None else round(value, 3),
        "repetitions": [round(ratio, 3) for ratio in values],
        "met": met,
    }


def _value(goal: Goal, arms: Mapping[str, Record]) -> float:
    arm = arms[goal.arm]
    if goal.figure == "limit":
        return float(arm["share_of_limit"])
    against = arms[goal.against]
    if goal.figure == "p99":
        return float(arm["p99_s"] / against["p99_s"])
    rate = float(arm["scores_per_s"] / against["scores_per_s"])
    return rate if goal.figure == "rate" else 1 / rate
