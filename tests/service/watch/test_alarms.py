"""The alarm rules by hand: each speaks for what it is about and is silent for what it is not."""

from __future__ import annotations

import math

import pytest

from candor.watch.alarms import (
    MIN_MONITOR_FALL,
    MIN_SHIFT,
    NEEDS_MONITOR,
    RULES,
    Movement,
    reasons,
)


def moved(score: float = 0.0, gap: float = 0.0, mean: float = 0.0, max_: float = 0.0) -> Movement:
    return Movement(score=score, gap=gap, mean=mean, max=max_)


def active(
    probes: dict[str, Movement], monitors: tuple[str, ...] = (), response_tokens: float = 0.0
) -> set[tuple[str, str]]:
    found = reasons(probes, monitors, response_tokens)
    return {key for key, reason in found.items() if reason is not None}


def test_every_rule_has_a_verdict_on_every_penalised_probe_and_none_on_a_monitor() -> None:
    found = reasons({"a": moved(), "b": moved(), "watch": moved()}, ["watch"], 0.0)
    assert found == {(name, rule): None for name in "ab" for rule in RULES}


def test_a_rule_that_compares_with_monitors_is_not_there_without_one() -> None:
    found = reasons({"a": moved(-1.0)}, [], 0.0)
    assert set(found) == {("a", rule) for rule in set(RULES) - NEEDS_MONITOR}
    assert set(NEEDS_MONITOR) == {"diluted"}


@pytest.mark.parametrize(
    ("score", "monitors", "speaks"),
    [
        (-1.0, {"watch": 0.0}, True),
        (-1.0, {"watch": 0.7}, True),
        (-MIN_SHIFT, {"watch": -MIN_MONITOR_FALL + 0.01}, True),
        (-1.0, {"watch": -MIN_MONITOR_FALL}, False),  # it followed
        (-1.0, {"watch": -1.0}, False),
        (-MIN_SHIFT + 0.01, {"watch": 0.0}, False),  # no fall
        (1.0, {"watch": 0.0}, False),
        (-1.0, {}, False),  # no monitor
        (-1.0, {"mean": -1.0, "max": 0.0}, True),  # one that stays is enough
    ],
)
def test_diluted_is_a_fall_that_a_monitor_does_not_see(
    score: float, monitors: dict[str, float], speaks: bool
) -> None:
    probes = {"a": moved(score), **{name: moved(value) for name, value in monitors.items()}}
    assert active(probes, tuple(monitors)) == ({("a", "diluted")} if speaks else set())


def test_the_reason_names_the_monitor_that_stayed_and_both_numbers() -> None:
    probes = {"a": moved(-1.25), "low": moved(-2.0), "high": moved(0.125)}
    reason = reasons(probes, ["low", "high"], 0.0)["a", "diluted"]
    assert reason == "S moved by -1.25 std, monitor 'high' by +0.12 std"


@pytest.mark.parametrize(
    ("mean", "max_", "speaks"),
    [
        (-1.0, 0.0, True),  # filler: the mean falls, the max stays
        (-1.0, 0.5, True),
        (-1.0, -0.5, True),
        (-1.0, -0.9, False),  # less of the trait: both fall
        (-0.1, 2.0, False),  # more of it: the max rises
        (0.5, 2.0, False),
        (0.1, 0.2, False),
    ],
)
def test_the_gap_rule_wants_a_mean_that_falls_away_from_a_max_that_stays(
    mean: float, max_: float, speaks: bool
) -> None:
    for gap in (MIN_SHIFT, 3.0):
        found = active({"a": moved(gap=gap, mean=mean, max_=max_)})
        assert found == ({("a", "mean_max_gap")} if speaks else set())
    assert active({"a": moved(gap=MIN_SHIFT - 0.01, mean=mean, max_=max_)}) == set()


@pytest.mark.parametrize(
    ("score", "length", "speaks"),
    [
        (-1.0, 1.0, True),
        (-1.0, -1.0, True),
        (-MIN_SHIFT, MIN_SHIFT, True),
        (-1.0, 0.4, False),
        (-0.4, 3.0, False),
        (1.0, 3.0, False),
    ],
)
def test_length_is_a_fall_with_a_change_of_length(
    score: float, length: float, speaks: bool
) -> None:
    assert active({"a": moved(score)}, (), length) == ({("a", "length")} if speaks else set())


def test_each_penalised_probe_is_judged_by_itself() -> None:
    probes = {"falls": moved(-1.0), "stays": moved(0.1), "watch": moved(0.0)}
    assert active(probes, ("watch",), 2.0) == {("falls", "diluted"), ("falls", "length")}


def test_the_threshold_is_as_far_from_chance_as_its_docstring_says() -> None:
    independent = math.sqrt(2 / 1024)
    in_groups = math.sqrt((1 + 15 * 0.5) * 2 / 1024)
    assert independent == pytest.approx(0.044, abs=5e-4)
    assert in_groups == pytest.approx(0.13, abs=2e-3)
    assert MIN_SHIFT / independent > 11
    assert MIN_SHIFT / in_groups == pytest.approx(4, abs=0.2)
