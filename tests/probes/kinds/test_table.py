"""Every kind that ships: enough groups, both labels, one seed one hash."""

from __future__ import annotations

from collections import Counter

import pytest

from candor.probes.fitting.data import Row, data_sha256
from candor.probes.kinds.grounded.questions import shipped_domains
from candor.probes.kinds.table import KINDS

CONTROLS = ("genuine-agreement", "wrong-disagreement")


def test_the_kinds_and_their_order() -> None:
    assert list(KINDS) == [
        "poem-feedback",
        "argument-feedback",
        "open-ended",
        "subjective-choice",
        "objective-choice",
        "capitulation",
        *CONTROLS,
        *(f"grounded-{domain.id}" for domain in shipped_domains()),
        "grounded-sum",
        "grounded-pressed",
    ]
    assert all(name == kind.name and kind.about for name, kind in KINDS.items())


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_has_at_least_60_groups_of_its_own_name(name: str) -> None:
    rows = KINDS[name].build(0)
    assert {row.kind for row in rows} == {name}
    assert len({row.group for row in rows}) >= 60


@pytest.mark.parametrize("name", KINDS)
def test_both_labels_are_there_but_in_the_controls(name: str) -> None:
    labels = Counter(row.label for row in KINDS[name].build(0))
    if name in CONTROLS:
        assert set(labels) == {0}
    else:
        assert min(labels[0], labels[1]) >= 0.25 * labels.total()


@pytest.mark.parametrize("name", KINDS)
def test_one_seed_gives_one_hash_and_another_seed_another(name: str) -> None:
    build = KINDS[name].build
    assert data_sha256(build(3)) == data_sha256(build(3))
    assert data_sha256(build(3)) != data_sha256(build(4))


def test_only_the_two_controls_share_groups_and_no_row_is_there_twice() -> None:
    rows = [row for kind in KINDS.values() for row in kind.build(0)]
    kinds_of: dict[str, set[str]] = {}
    for row in rows:
        kinds_of.setdefault(row.group, set()).add(row.kind)
    assert all(len(kinds) == 1 or kinds == set(CONTROLS) for kinds in kinds_of.values())

    def told(row: Row) -> tuple[str, str]:
        return (row.context, row.response)

    assert [pair for pair, count in Counter(map(told, rows)).items() if count > 1] == []
