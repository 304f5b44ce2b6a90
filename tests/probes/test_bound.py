"""`Bound` by hand at chosen points, and its properties at any point."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor.probes.bound import Bound

CLIP = Bound("clip", low=-2.0, high=3.0)
HINGE = Bound("hinge", reference=1.0)
TANH = Bound("tanh", reference=1.0, scale=2.0)
ALL = (Bound("none"), CLIP, HINGE, TANH)

scores = st.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    ("bound", "s", "expected"),
    [
        (Bound("none"), -7.5, -7.5),
        (CLIP, -5.0, -2.0),
        (CLIP, 0.25, 0.25),
        (CLIP, 9.0, 3.0),
        (HINGE, 0.5, 0.0),
        (HINGE, 1.0, 0.0),
        (HINGE, 3.5, 2.5),
        (TANH, 1.0, 0.0),
        (TANH, 3.0, 2.0 * math.tanh(1.0)),
        (TANH, 1e6, 2.0),
    ],
)
def test_each_kind_has_the_value_worked_out_by_hand(
    bound: Bound, s: float, expected: float
) -> None:
    assert bound(s) == expected


@given(s=scores)
def test_clip_stays_within_its_limits_and_leaves_what_is_inside_alone(s: float) -> None:
    assert -2.0 <= CLIP(s) <= 3.0
    if -2.0 <= s <= 3.0:
        assert CLIP(s) == s


@given(s=scores)
def test_hinge_is_never_negative_so_a_low_score_buys_nothing(s: float) -> None:
    assert HINGE(s) >= 0.0


@given(s=scores)
def test_tanh_stays_within_plus_minus_its_scale(s: float) -> None:
    assert abs(TANH(s)) <= 2.0


@given(a=scores, b=scores)
def test_every_kind_is_non_decreasing(a: float, b: float) -> None:
    low, high = sorted((a, b))
    for bound in ALL:
        assert bound(low) <= bound(high)


@pytest.mark.parametrize("bound", ALL, ids=lambda bound: bound.kind)
def test_nan_comes_back_as_nan_and_not_as_a_penalty_of_zero(bound: Bound) -> None:
    assert math.isnan(bound(math.nan))


@pytest.mark.parametrize(
    ("bound", "can"),
    [
        (Bound("none"), True),
        (CLIP, True),
        (Bound("clip", low=-1e-9, high=1.0), True),
        (Bound("clip", low=0.0, high=1.0), False),
        (Bound("clip", low=0.5, high=1.0), False),
        (HINGE, False),
        (Bound("hinge", reference=-5.0), False),
        (TANH, True),
        (Bound("tanh", reference=-1e6, scale=1e-3), True),
    ],
)
def test_a_bound_that_can_raise_the_reward_says_so(bound: Bound, can: bool) -> None:
    assert bound.can_raise_reward is can
    assert (bound(-1e9) < 0) is can  # every bound is lowest at the lowest score


def test_symbols_name_the_kind() -> None:
    assert [bound.symbol for bound in ALL] == ["S", "clip(S)", "max(0, S - S_ref)", "tanh(S)"]


@pytest.mark.parametrize(
    ("kind", "parameters", "blamed"),
    [
        ("clip", {"low": 0.0}, "high"),
        ("clip", {"low": 1.0, "high": 1.0}, "low < high"),
        ("clip", {"low": 0.0, "high": math.inf}, "high"),
        ("clip", {"low": 0.0, "high": 1.0, "scale": 1.0}, "scale"),
        ("hinge", {}, "reference"),
        ("hinge", {"reference": math.nan}, "reference"),
        ("tanh", {"reference": 0.0}, "scale"),
        ("tanh", {"reference": 0.0, "scale": 0.0}, "scale > 0"),
        ("none", {"low": 0.0}, "low"),
        ("relu", {}, "relu"),
    ],
)
def test_wrong_parameters_are_refused_and_named(
    kind: str, parameters: dict[str, float], blamed: str
) -> None:
    with pytest.raises(ValueError, match=blamed):
        Bound(kind, **parameters)  # type: ignore[arg-type]
