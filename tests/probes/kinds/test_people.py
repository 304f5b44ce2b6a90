"""The invented people: none bears a name of a public list."""

from __future__ import annotations

from candor.probes.kinds.people import NAMES
from tests.probes.kinds.public.lines import real


def test_the_names_that_ship_are_not_those_of_a_public_list() -> None:
    public = (real("sycophancy-intervention") / "names.txt").read_text().split(",")
    assert len(public) == 10_000
    assert not {name.strip() for name in public} & set(NAMES)
    assert len(set(NAMES)) == len(NAMES)
