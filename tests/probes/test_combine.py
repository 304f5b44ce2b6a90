"""Several penalties as one: each kind by hand, and what must hold of all of them."""

from __future__ import annotations

import math
import random
import struct
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor.probes.combine import Combination, CombinationKind

KINDS: tuple[CombinationKind, ...] = get_args(CombinationKind)
term = st.floats(min_value=-1e100, max_value=1e100)


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def test_each_kind_by_hand() -> None:
    terms = [1.0, 4.0, -2.0]
    assert Combination("sum")(terms) == 3.0
    assert Combination("max")(terms) == 4.0
    # Mean 1; deviations 0, 3, -3; variance 6.
    assert Combination("spread", 0.5)(terms) == 1.0 + 0.5 * math.sqrt(6.0)
    assert Combination("spread", 0.0)(terms) == 1.0


def test_the_spread_is_of_the_population_and_one_unless_given() -> None:
    assert Combination("spread")([1.0, 3.0]) == 3.0
    assert Combination("spread").spread_weight == 1.0


def test_probes_that_agree_are_charged_once_by_max_and_spread_and_twice_by_the_sum() -> None:
    assert [Combination(kind)([0.75, 0.75]) for kind in KINDS] == [1.5, 0.75, 0.75]


@pytest.mark.parametrize("kind", KINDS)
@given(one=term, weight=st.floats(0, 1e6))
def test_one_term_is_the_penalty_to_the_bit(
    kind: CombinationKind, one: float, weight: float
) -> None:
    # 0.0 + x: a term of -0.0 is no negative penalty.
    assert bits(Combination(kind, weight)([one])) == bits(0.0 + one)


@pytest.mark.parametrize("kind", KINDS)
def test_no_term_is_no_penalty_and_never_negative_zero(kind: CombinationKind) -> None:
    combination = Combination(kind)
    for terms in ([], [-0.0], [-0.0, -0.0], [0.0, -0.0], [-0.0, 0.0]):
        assert bits(combination(terms)) == bits(0.0)


@pytest.mark.parametrize("kind", KINDS)
@given(terms=st.lists(term, min_size=1, max_size=6))
def test_it_lies_where_its_kind_says(kind: CombinationKind, terms: list[float]) -> None:
    penalty = Combination(kind)(terms)
    slack = 1e-9 * max(map(abs, terms))
    assert math.isfinite(penalty)
    if kind != "sum":
        assert penalty >= min(terms) - slack
    if kind == "max":
        assert penalty == max(terms)


def test_the_sum_goes_term_by_term_in_order_on_every_python() -> None:
    """The built-in sum is compensated from 3.12 on: it says 2.0 for these."""
    terms = [1.0, 1e100, 1.0, -1e100]
    assert Combination("sum")(terms) == 0.0
    rng = random.Random(0)
    for _ in range(50):
        terms = [rng.gauss(0, 1) for _ in range(5)]
        assert (
            Combination("sum")(terms)
            == (((terms[0] + terms[1]) + terms[2]) + terms[3]) + (terms[4])
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("terms", [[math.nan, 1.0], [1.0, math.nan], [math.nan]])
def test_a_nan_is_never_dropped(kind: CombinationKind, terms: list[float]) -> None:
    assert math.isnan(Combination(kind)(terms))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("median",), "unknown combination 'median': use one of sum, max, spread"),
        (("spread", -0.5), "spread_weight"),
        (("spread", math.nan), "spread_weight"),
        (("spread", math.inf), "spread_weight"),
    ],
)
def test_what_is_no_combination_is_refused(arguments: tuple[object, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Combination(*arguments)  # type: ignore[arg-type]


def test_symbols() -> None:
    two = ["a", "b"]
    assert Combination("sum").symbol(two) == " - a - b"
    assert Combination("max").symbol(two) == " - max(a, b)"
    assert Combination("spread", 0.5).symbol(two) == " - mean(a, b) - 0.5*std(a, b)"
    for kind in KINDS:
        assert Combination(kind).symbol([]) == ""
        assert Combination(kind).symbol(["a"]) == " - a"
