"""Arms at equal steps and at equal KL, the interval over seeds, and the outcome of a run."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
from scipy import stats

from demo.rl.comparison import at_kl, at_step, common_kl, paired
from demo.rl.outcome import outcome
from demo.rl.summary import summarise
from demo.rl.tables import markdown


def evaluation(
    step: int, kl: float, agrees: float, probe: float = 0.9, monitor: float = 0.9
) -> Any:
    def share(mean: float) -> dict[str, float]:
        return {"mean": mean, "low": mean, "high": mean}

    return {
        "step": step,
        "kl": share(kl),
        "agrees_wrong": share(agrees),
        **{
            name: share(0.5)
            for name in (
                "truth_wrong", "agrees_right", "truth", "no_answer", "neutral_base_reward",
            )
        },
        "wording": {"words": 4.0, "hedging": 0.1, "certainty": 0.0},
        "auroc": {
            name: {"within": value, "with_opinion": value, "num_pairs": 9}
            for name, value in (("sycophancy", probe), ("monitor", monitor))
        },
    }  # fmt: skip


def run(arm: str, seed: int, *points: tuple[float, float]) -> Any:
    """A run with an evaluation every 10 steps at these (KL, agreement)."""
    rows = [evaluation(10 * place, kl, agrees) for place, (kl, agrees) in enumerate(points)]
    alarms: list[list[str] | None] = [None, [], ["p: length: r"]]
    steps = [{"step": number, "alarms": each} for number, each in enumerate(alarms, start=1)]
    return {"arm": arm, "seed": seed, "evaluations": rows, "steps": steps}


def test_at_equal_kl_a_curve_is_read_where_it_first_reaches_the_level() -> None:
    one = run("R", 0, (0.0, 0.2), (0.4, 0.6), (0.2, 0.5), (0.8, 0.9))
    assert at_kl(one, 0.1, "agrees_wrong") == pytest.approx(0.3)
    assert at_kl(one, 0.4, "agrees_wrong") == pytest.approx(0.6)
    assert at_kl(one, 0.5, "agrees_wrong") == pytest.approx(0.7)
    assert at_kl(one, 0.9, "agrees_wrong") is None
    assert at_step(one, 20, "agrees_wrong") == 0.5
    assert at_step(one, 5, "agrees_wrong") is None
    assert common_kl([one, run("R", 1, (0.0, 0.2), (0.3, 0.4))]) == 0.3


def test_a_slower_arm_is_better_at_equal_steps_and_not_at_equal_kl() -> None:
    """What a permuted penalty does: the same curve, walked at half the speed."""
    fast = [run("R", seed, (0.0, 0.2), (0.5, 0.6), (1.0, 1.0)) for seed in range(3)]
    slow = [run("permuted", seed, (0.0, 0.2), (0.25, 0.4), (0.5, 0.6)) for seed in range(3)]
    level = common_kl([*fast, *slow])
    assert level == 0.5
    assert paired(fast, slow, partial(at_step, step=20, name="agrees_wrong"))["mean"] == (
        pytest.approx(0.4)
    )
    equal = paired(fast, slow, partial(at_kl, level=level, name="agrees_wrong"))
    assert equal["mean"] == pytest.approx(0.0)
    assert equal["seeds"] == 3


def test_pairs_are_of_the_same_seed() -> None:
    first = [run("R", 0, (0.0, 0.2), (1.0, 0.9)), run("R", 1, (0.0, 0.2), (1.0, 0.5))]
    second = [run("penalised", 1, (0.0, 0.2), (1.0, 0.1))]
    found = paired(first, second, partial(at_step, step=10, name="agrees_wrong"))
    assert found["seeds"] == 1
    assert found["mean"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("agrees", "probe", "monitor", "expected"),
    [
        (0.24, 0.5, 0.5, "honest"),
        (0.9, 0.86, 0.5, "blatant"),
        (0.9, 0.7, 0.7, "obfuscated-policy"),
        (0.9, 0.7, 0.9, "obfuscated-activations"),
        (0.9, None, 0.9, "unknown"),
    ],
)
def test_the_outcome_follows_the_stated_thresholds(
    agrees: float, probe: float | None, monitor: float, expected: str
) -> None:
    start, end = evaluation(0, 0.0, 0.2), evaluation(40, 1.0, agrees, monitor=monitor)
    end["auroc"]["sycophancy"]["within"] = probe
    assert outcome(start, end, "sycophancy", "monitor") == expected


def test_a_probe_that_never_told_gives_no_outcome_to_a_run_that_flatters() -> None:
    start, end = evaluation(0, 0.0, 0.2, probe=0.5), evaluation(40, 1.0, 0.9, probe=0.5)
    assert outcome(start, end, "sycophancy", "monitor") == "unknown"
    assert outcome(start, evaluation(40, 1.0, 0.1), "sycophancy", "monitor") == "honest"


def test_the_summary_leads_with_both_comparisons_and_counts_alarms_that_could_fire() -> None:
    runs = [
        *(run("R", s, (0.0, 0.2), (0.5, 0.6), (1.0, 0.9 + s / 100)) for s in range(5)),
        *(run("penalised", s, (0.0, 0.2), (0.2, 0.1), (0.5, 0.1)) for s in range(5)),
    ]
    found = summarise(runs)
    assert found["kl"]["level"] == 0.5
    head = found["headline"]
    assert head["agrees_wrong"]["start"] == pytest.approx(0.2)
    assert head["R_minus_penalised"]["equal_step"]["mean"] == pytest.approx(0.82)
    assert head["R_minus_penalised"]["equal_kl"]["mean"] == pytest.approx(0.5)
    half = stats.t.ppf(0.975, 4) * math.sqrt(0.00025) / math.sqrt(5)
    assert head["R_minus_penalised"]["equal_step"]["low"] == pytest.approx(0.82 - half)
    assert found["runs"][0]["steps_compared"] == 2
    assert found["runs"][0]["steps_with_alarm"] == 1
    assert found["runs"][0]["first_alarm"] == 3
    assert list(found["arms"]) == ["R", "penalised"]


def test_the_tables_say_what_the_summary_holds() -> None:
    runs = [
        run("R", 0, (0.0, 0.2), (0.6, 0.9)),
        run("R", 1, (0.0, 0.4), (0.6, 0.7)),
        run("penalised", 0, (0.0, 0.2), (0.6, 0.1)),
        run("penalised", 1, (0.0, 0.4), (0.6, 0.3)),
    ]
    printed = markdown(summarise(runs)).splitlines()
    half = stats.t.ppf(0.975, 1) * 0.1  # of two values 0.2 apart
    row = f"| R | 0.800 ({0.8 - half:.2f} to {0.8 + half:.2f}) | 0.500 (0.50 to 0.50) |"
    assert any(line.startswith(row) for line in printed)
    half = stats.t.ppf(0.975, 1) * 0.2  # of the differences 0.8 and 0.4
    row = f"| R - penalised, equal KL | 0.600 ({0.6 - half:.2f} to {0.6 + half:.2f}) |"
    assert any(line.startswith(row) for line in printed)
    assert any(line.startswith("| R, seed 1 | 0.400 to 0.700 | 0.600 |") for line in printed)
    for table in "\n".join(printed).split("\n\n")[1::2]:
        assert len({line.count("|") for line in table.splitlines()}) == 1
