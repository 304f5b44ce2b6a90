"""No group is in two parts, every kind is in every part, and what cannot be split is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor.probes.fitting.data import Row
from candor.probes.fitting.split import HeldOut, split_rows
from tests.probes.made import rows_of


@given(
    sizes=st.lists(st.integers(2, 5), min_size=3, max_size=40),
    seed=st.integers(0, 2**32),
    shares=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
)
def test_no_group_is_in_two_parts_and_no_row_is_lost(
    sizes: list[int], seed: int, shares: tuple[int, int, int]
) -> None:
    rows = [row for n, size in enumerate(sizes) for row in rows_of([f"g{n}"], size)]
    total = sum(shares)
    fractions = (shares[0] / total, shares[1] / total, shares[2] / total)
    split = split_rows(rows, seed, fractions)
    parts = [split.train, split.validation, split.test.open()]
    assert sorted(index for part in parts for index in part) == list(range(len(rows)))
    groups = [{rows[index].group for index in part} for part in parts]
    assert all(groups)
    assert sum(map(len, groups)) == len(set().union(*groups)) == len(sizes)


def test_the_split_depends_on_the_seed_and_not_on_the_order_of_the_rows() -> None:
    rows = rows_of([f"g{n}" for n in range(20)])

    def train_groups(rows: list[Row], seed: int) -> set[str]:
        return {rows[index].group for index in split_rows(rows, seed).train}

    assert train_groups(rows, 0) == train_groups(rows[::-1], 0)
    assert len(train_groups(rows, 0)) == 12
    assert train_groups(rows, 0) != train_groups(rows, 1)


def kinds(**groups: int) -> list[Row]:
    """Two rows, one of each label, in every one of `groups[kind]` groups."""
    return [
        row.model_copy(update={"kind": kind})
        for kind, number in groups.items()
        for row in rows_of([f"{kind}-{n}" for n in range(number)])
    ]


@given(
    sizes=st.lists(st.integers(3, 30), min_size=1, max_size=6),
    seed=st.integers(0, 2**32),
)
def test_every_kind_is_in_every_part_near_its_share(sizes: list[int], seed: int) -> None:
    rows = kinds(**{f"k{n}": size for n, size in enumerate(sizes)})
    split = split_rows(rows, seed)
    for part, share in ((split.train, 0.6), (split.validation, 0.2), (split.test.open(), 0.2)):
        for n, size in enumerate(sizes):
            found = len({rows[i].group for i in part if rows[i].kind == f"k{n}"})
            assert found >= 1
            assert abs(found - share * size) <= 1.0


def test_a_group_with_rows_of_several_kinds_stays_whole_and_every_kind_is_still_everywhere() -> (
    None
):
    rows = kinds(a=10, b=4)
    rows += [row.model_copy(update={"kind": "b"}) for row in rows if row.group in ("a-1", "a-2")]
    split = split_rows(rows, seed=0)
    parts = [split.train, split.validation, split.test.open()]
    groups = [{rows[index].group for index in part} for part in parts]
    assert sum(map(len, groups)) == 14
    assert all({rows[index].kind for index in part} == {"a", "b"} for part in parts)


def test_without_kinds_a_small_kind_would_have_been_lost() -> None:
    """The control: the same rows as one kind leave a part without the small one."""
    rows = kinds(big=60, small=3)
    plain = [row.model_copy(update={"kind": ""}) for row in rows]
    lost = [
        seed
        for seed in range(20)
        for split in [split_rows(plain, seed)]
        if not any(rows[index].kind == "small" for index in split.validation)
    ]
    assert lost
    for seed in lost:
        split = split_rows(rows, seed)
        assert any(rows[index].kind == "small" for index in split.validation)


def with_parts(rows: list[Row], *parts: str) -> list[Row]:
    return [row.model_copy(update={"split": part}) for row, part in zip(rows, parts, strict=True)]


def test_a_split_that_the_rows_bring_is_taken_as_it_is() -> None:
    rows = with_parts(
        rows_of(["a", "b", "c"]), "test", "test", "train", "train", "validation", "validation"
    )
    split = split_rows(rows, seed=0)
    assert (split.train, split.validation, split.test.open()) == ((2, 3), (4, 5), (0, 1))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "no rows"),
        (kinds(a=3, b=2), "kind 'b' has 2 groups: .* at least three"),
        (rows_of(["a"]), r"the data \(rows without a kind\) has 1 group:"),
        (rows_of(["a", "b", "c"], 1), r"every row has label 0 \(3 rows, the first at row 0\)"),
        (
            with_parts(rows_of(["a"]), "train", "test"),
            "row 1: group 'a' is in 'test' here and in 'train' at row 0",
        ),
        (
            [*with_parts(rows_of(["a"]), "train", "train"), *rows_of(["b"])],
            "row 2: split: missing, while row 0 has one",
        ),
        (
            with_parts(kinds(a=2), *["train"] * 2, *["test"] * 2),
            "kind 'a' has no row in the validation part",
        ),
        (
            with_parts(kinds(a=3), *["train"] * 2, *["test"] * 2, *["validation"] * 2)[:-1],
            "kind 'a' has no row with label 1 in the validation part",
        ),
    ],
)
def test_rows_that_cannot_be_split_are_refused_and_named(rows: list[Row], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        split_rows(rows, seed=0)


def test_rows_are_named_by_their_places_where_they_are_known() -> None:
    rows = with_parts(rows_of(["a"]), "train", "test")
    with pytest.raises(ValueError, match=r"b\.jsonl:1: group 'a'.* at a\.jsonl:9"):
        split_rows(rows, seed=0, places=["a.jsonl:9", "b.jsonl:1"])


def test_fractions_that_are_no_shares_are_refused() -> None:
    with pytest.raises(ValueError, match="fractions"):
        split_rows(rows_of(["a", "b", "c"]), seed=0, fractions=(0.8, 0.2, 0.2))


def test_the_test_split_opens_once() -> None:
    held_out = HeldOut([3, 5])
    assert len(held_out) == 2  # its size is no secret
    assert held_out.open() == (3, 5)
    with pytest.raises(RuntimeError, match="opened before"):
        held_out.open()
