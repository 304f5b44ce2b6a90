"""Rows: what a line may be, what counts in the hash, and that no group is in two parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.data import HeldOut, Row, data_sha256, load_rows, split_by_group
from tests.probes.made import rows_of

GOOD: dict[str, Any] = {
    "group": "poem-1",
    "label": 1,
    "response": "I love it too!",
    "messages": [{"role": "user", "content": "I like it. \u2028 Comment."}],
}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def test_rows_are_read_in_order(tmp_path: Path) -> None:
    text = {"group": "g", "label": 0, "response": "no", "prompt": "user: hi", "kind": "other"}
    first, second = load_rows(write(tmp_path / "rows.jsonl", GOOD, text))
    assert first.messages is not None
    assert (first.label, first.messages[0].content, first.kind) == (
        1,
        "I like it. \u2028 Comment.",
        "",
    )
    assert (second.prompt, second.messages, second.kind) == ("user: hi", None, "other")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"label": 2}, "label"),
        ({"label": True}, "label"),
        ({"label": "1"}, "label"),
        ({"group": 7}, "group"),
        ({"group": ""}, "group"),
        ({"response": ""}, "response"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"prompt": "as well"}, "exactly one"),
        ({"messages": None}, "exactly one"),
        ({"lable": 1}, "lable"),
    ],
)
def test_a_wrong_row_is_refused_with_file_line_and_field(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    path = write(tmp_path / "rows.jsonl", GOOD, GOOD | changes)
    with pytest.raises(ValueError, match=named) as caught:
        load_rows(path)
    assert str(caught.value).startswith(f"{path}:2: ")


def test_a_line_that_is_not_json_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(GOOD) + "\n\n")
    with pytest.raises(ValueError, match=r"rows\.jsonl:2: row: Invalid JSON"):
        load_rows(path)
    path.write_text("")
    with pytest.raises(ValueError, match="no rows"):
        load_rows(path)


def test_the_hash_is_of_the_content_and_not_of_the_spelling(tmp_path: Path) -> None:
    compact = load_rows(write(tmp_path / "a.jsonl", GOOD))
    reordered = dict(reversed(GOOD.items())) | {"kind": ""}
    (tmp_path / "b.jsonl").write_text(json.dumps(reordered, indent=None, separators=(" ,", ": ")))
    assert data_sha256(load_rows(tmp_path / "b.jsonl")) == data_sha256(compact)
    assert data_sha256([compact[0].model_copy(update={"label": 0})]) != data_sha256(compact)


def test_equal_contexts_are_equal_strings_and_others_are_not() -> None:
    def context(**fields: Any) -> str:
        return Row(group="g", label=1, response="r", **fields).context

    user, system = ({"role": role, "content": "a"} for role in ("user", "system"))
    assert context(messages=(user,)) == context(messages=(user,))
    different = [
        context(messages=(user,)),
        context(messages=(system,)),
        context(messages=(user, user)),
        context(prompt="a"),
        context(prompt=json.dumps([["user", "a"]])),
    ]
    assert len(set(different)) == len(different)


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
    split = split_by_group(rows, seed, fractions)
    parts = [split.train, split.validation, split.test.open()]
    assert sorted(index for part in parts for index in part) == list(range(len(rows)))
    groups = [{rows[index].group for index in part} for part in parts]
    assert all(groups)
    assert sum(map(len, groups)) == len(set().union(*groups)) == len(sizes)


def test_the_split_depends_on_the_seed_and_not_on_the_order_of_the_rows() -> None:
    rows = rows_of([f"g{n}" for n in range(20)])

    def train_groups(rows: list[Row], seed: int) -> set[str]:
        return {rows[index].group for index in split_by_group(rows, seed).train}

    assert train_groups(rows, 0) == train_groups(rows[::-1], 0)
    assert len(train_groups(rows, 0)) == 12
    assert train_groups(rows, 0) != train_groups(rows, 1)


def test_too_few_groups_and_parts_without_both_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="at least three groups, got 2"):
        split_by_group(rows_of(["a", "b"]), seed=0)
    with pytest.raises(ValueError, match="lacks label 0 or label 1"):
        split_by_group(rows_of(["a", "b", "c"], responses=1), seed=0)
    with pytest.raises(ValueError, match="fractions"):
        split_by_group(rows_of(["a", "b", "c"]), seed=0, fractions=(0.8, 0.2, 0.2))


def test_the_test_split_opens_once() -> None:
    held_out = HeldOut([3, 5])
    assert len(held_out) == 2  # its size is no secret
    assert held_out.open() == (3, 5)
    with pytest.raises(RuntimeError, match="opened before"):
        held_out.open()
