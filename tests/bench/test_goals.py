"""Goals are judged on paired repetitions, and not at all on what was not measured."""

from __future__ import annotations

from typing import Any

from bench.goals import BEFORE, GOALS, Goal, judge, repeated
from bench.report import agreement, tables

RATE = Goal("a over b", "groups/single", "rate", "a", "b", at_least=1.5)


def record(arm: str, repetition: int, rate: float, **more: Any) -> dict[str, Any]:
    return {
        "cell": "groups/single",
        "arm": arm,
        "repetition": repetition,
        "scores_per_s": rate,
        "errors": {},
        "rewards": [0.0, 1.0, 2.0],
        "num_tokens": 30,
        "num_computed_tokens": 22,
        "num_distinct_tokens": 20,
        "seconds": 1.0,
        "arm_cpu_s": 1.5,
        "matmul_flops_per_s": [1e11, 1e11],
        "limit_scores_per_s": 40.0,
        "share_of_limit": rate / 40.0,
    } | more


def test_a_ratio_is_taken_within_a_repetition_and_then_the_median() -> None:
    """The machine halves its speed after the first repetition; the pairs do not care."""
    records = [record("a", n, rate) for n, rate in enumerate([32.0, 16.0, 17.0])]
    records += [record("b", n, rate) for n, rate in enumerate([20.0, 10.0, 10.0])]
    judged = judge(RATE, records)
    assert judged["repetitions"] == [1.6, 1.6, 1.7]
    assert (judged["value"], judged["met"]) == (1.6, True)
    slower = judge(Goal("", "groups/single", "time", "a", "b", at_most=0.6), records)
    assert (slower["value"], slower["met"]) == (0.625, False)


def test_a_goal_without_its_arms_is_not_met_and_not_missed() -> None:
    judged = judge(RATE, [record("a", 0, 32.0)])
    assert (judged["value"], judged["met"], judged["repetitions"]) == (None, None, [])


def test_a_measurement_with_errors_counts_for_nothing() -> None:
    records = [record("a", 0, 99.0, errors={"HTTP 503": 1}), record("b", 0, 10.0)]
    assert judge(RATE, records)["value"] is None


def test_the_share_of_the_limit_needs_one_arm() -> None:
    goal = Goal("", "groups/single", "limit", "a", "", at_least=0.85)
    assert judge(goal, [record("a", 0, 36.0)])["value"] == 0.9


def test_what_no_goal_rests_on_is_measured_once() -> None:
    assert repeated("groups/single", "packed")
    assert not repeated("groups/single", "vllm-stock")
    assert not repeated("unique/batch", "packed")
    assert repeated("unique/batch", "packed", BEFORE)


def test_scores_that_differ_are_said_before_any_speed() -> None:
    records = [
        record("packed", 0, 30.0),
        record("padded", 0, 5.0, rewards=[2.0, 1.0, 0.0]),
        record("bare", 0, 30.0, num_tokens=31),
    ]
    found = agreement(records)
    assert [round(one["mean_gap"], 2) for one in found] == [1.63, 0.0]
    text = tables(result(records, found))
    assert "**The scores differ**: groups/single, padded" in text
    assert "**The tokens differ**: groups/single, bare" in text
    assert "| groups/single, packed | 1.10 | 0.75 | 0.29 |" in text
    alike = tables(result(records[:1], []))
    assert "differ**" not in alike


def result(records: list[dict[str, Any]], found: list[dict[str, Any]]) -> dict[str, Any]:
    arm = {"missing": "", "start_s": 1.0, "peak_bytes": 2**20}
    return {
        "machine": {"num_cpus": 2, "cpu": "a CPU"},
        "flops_per_token": 10**9,
        "git": None,
        "dtype": "float32",
        "num_items": 3,
        "repetitions": 1,
        "records": records,
        "arms": {one["arm"]: arm | {"title": one["arm"]} for one in records},
        "goals": [judge(goal, records) for goal in GOALS],
        "agreement": found,
    }
