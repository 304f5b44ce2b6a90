"""The types that an engine takes and returns."""

from __future__ import annotations

import pytest

from candor.item import Item, Reading, Score


def test_items_of_one_context_have_one_key() -> None:
    first = Item((1, 2, 3, 4), 2, 4)
    assert Item((1, 2, 9), 2, 3).group_hash == first.group_hash
    assert Item((2, 1, 3, 4), 2, 4).group_hash != first.group_hash
    assert Item((1, 2, 3, 4), 1, 4).group_hash != first.group_hash


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_score_is_finite_only_if_all_its_numbers_are(bad: float) -> None:
    good = Reading(1.0, 2.0, 3.0)
    assert Score(0.5, {"p": good}).is_finite
    assert not Score(bad, {"p": good}).is_finite
    for reading in (Reading(bad, 0, 0), Reading(0, bad, 0), Reading(0, 0, bad)):
        assert not Score(0.5, {"p": good, "q": reading}).is_finite
