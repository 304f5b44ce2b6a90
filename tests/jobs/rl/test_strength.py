"""The penalty's warm-up by number, and where a probe's strength comes from."""

from __future__ import annotations

import pytest

from candor.flags import UsageError
from candor.jobs.rl.strength import Schedule, as_flags, full_strengths

SERVED = [{"name": "sycophancy", "lambda": 0.5, "card": {}}, {"name": "length", "lambda": 0.0}]


def test_the_penalty_rises_in_equal_steps_and_is_whole_at_the_last_of_them() -> None:
    schedule = Schedule({"sycophancy": {"lambda": 2.0}, "length": {"kappa": 1.0}}, 4)
    assert [schedule.at(step)["sycophancy"]["lambda"] for step in range(6)] == [
        0.5,
        1.0,
        1.5,
        2.0,
        2.0,
        2.0,
    ]
    assert schedule.at(1)["length"] == {"kappa": 0.5}


@pytest.mark.parametrize("warmup_steps", [0, 1])
def test_without_a_warm_up_the_first_step_has_all_of_it(warmup_steps: int) -> None:
    full = {"sycophancy": {"lambda": 0.1 + 0.2}}
    assert Schedule(full, warmup_steps).at(0) == full


def test_a_probe_that_is_not_named_keeps_the_strength_it_is_served_with() -> None:
    assert full_strengths({"length": {"kappa": 1.0}}, SERVED) == {
        "sycophancy": {"lambda": 0.5},
        "length": {"kappa": 1.0},
    }


def test_a_probe_that_is_not_served_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="'lenght' is served; served probes: sycophancy, length"):
        full_strengths({"lenght": {"lambda": 1.0}}, SERVED)


def test_strengths_as_flags_keep_every_digit() -> None:
    flags = as_flags({"sycophancy": {"lambda": 0.1 + 0.2}, "length": {"kappa": 1.0}})
    assert flags == {"penalty": ["sycophancy=0.30000000000000004"], "kappa": ["length=1.0"]}
