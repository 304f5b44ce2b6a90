"""Strengths as texts: what they become, and what is refused by the flag's name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from candor.client.schema import RewardRequest
from candor.flags import UsageError
from candor.jobs.rollouts.strengths import parse_closed_form, parse_penalties, parse_sweeps


def test_the_three_flags_are_the_penalties_of_the_api() -> None:
    penalties = parse_penalties(["a=0.5"], ["b=2"], ["c=1.5", "d=2:-0.25"])
    assert penalties == {
        "a": {"lambda": 0.5},
        "b": {"kappa": 2.0},
        "c": {"closed_form": {"beta": 1.5}},
        "d": {"closed_form": {"beta": 2.0, "threshold": -0.25}},
    }
    items = [{"prompt": "p", "templated": True, "responses": ["r"]}]
    RewardRequest.model_validate({"items": items, "penalties": penalties})


def test_a_sweep_is_a_list_of_strengths_by_probe() -> None:
    assert parse_sweeps("--kappa-sweep", ["a=0,0.5,2", "b=1"]) == {"a": [0, 0.5, 2], "b": [1]}


@pytest.mark.parametrize("text", ["a", "a=", "=1", "a=x", "a=0", "a=-1", "a=inf", "a=1:", "a=1:x"])
def test_a_closed_form_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"--closed-form {text}: must be"):
        parse_closed_form(text)


@pytest.mark.parametrize("text", ["a", "a=", "=1", "a=1,x", "a=-1", "a=1,nan"])
def test_a_sweep_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"--lambda-sweep {text}: must be"):
        parse_sweeps("--lambda-sweep", [text])


@pytest.mark.parametrize(
    "parse",
    [
        lambda: parse_penalties(["a=1", "a=1"], [], []),
        lambda: parse_penalties(["a=1"], ["a=1"], []),
        lambda: parse_penalties([], ["a=1"], ["a=1"]),
        lambda: parse_sweeps("--kappa-sweep", ["a=1", "a=2"]),
    ],
)
def test_a_probe_has_one_strength(parse: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match=r"twice|two strengths|each name once"):
        parse()
