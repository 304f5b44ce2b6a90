"""Rows: what a line may be, and what counts in the hash."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from candor.client.schema import Message
from candor.probes.fitting.data import Row, data_sha256, load_files, load_rows

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
        ({"label": "yes"}, "label"),
        ({"group": 7}, "group"),
        ({"group": ""}, "group"),
        ({"response": ""}, "response"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages.0: .*'content' is required"),
        ({"messages": [{"role": "user", "content": "q", "tone": "x"}]}, "unknown field 'tone'"),
        ({"templated": True}, "'templated' goes with 'prompt'"),
        ({"messages": None, "prompt": "p", "tools": [{"name": "f"}]}, "'tools' goes with"),
        ({"messages": None, "prompt": "p", "response": {"role": "assistant"}}, "must be texts"),
        ({"response": {"role": "user", "content": "r"}}, "must be assistant"),
        ({"response": {"role": "assistant", "content": "r"}, "span": [0, 1]}, "span.*a text"),
        ({"response": None}, "response"),
        ({"prompt": "as well"}, "exactly one"),
        ({"messages": None}, "exactly one"),
        ({"lable": 1}, "lable"),
        ({"split": "dev"}, "split"),
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
    path.write_text("\n" + json.dumps(GOOD) + "\n{\n")
    with pytest.raises(ValueError, match=r"rows\.jsonl:3: not JSON"):
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

    tools = [{"name": "f"}]
    user, system = ({"role": role, "content": "a"} for role in ("user", "system"))
    assert context(messages=[user]) == context(messages=[user | {"name": None}])
    different = [
        context(messages=[user]),
        context(messages=[system]),
        context(messages=[user, user]),
        context(messages=[user | {"name": "Ann"}]),
        context(messages=[user], tools=tools),
        context(prompt="a"),
        context(prompt=json.dumps([["user", "a"]])),
    ]
    assert len(set(different)) == len(different)


def test_the_optional_fields_count_in_the_hash_only_where_they_are_given() -> None:
    row = Row.model_validate_json(json.dumps(GOOD))
    # Written down when the row had none of them: cards that name it stay true.
    assert data_sha256([row]) == (
        "3f4eb8e9bdddb35713a579dad613631b7de68ebd4e61a61799a6645b25bf3055"
    )
    for field in (
        {"split": "test"},
        {"direction": "like"},
        {"span": (0, 1)},
        {"tools": [{"name": "f"}]},
        {"messages": [Message(role="user", content="I like it. \u2028 Comment.", name="Ann")]},
        {"response": Message(role="assistant", content="I love it too!")},
    ):
        assert data_sha256([row.model_copy(update=field)]) != data_sha256([row])


def test_several_files_are_one_data_set_and_each_row_keeps_its_place(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", GOOD, GOOD | {"label": 0})
    two = write(tmp_path / "two.jsonl", GOOD | {"group": "poem-2"})
    rows, places = load_files([one, two])
    assert [row.group for row in rows] == ["poem-1", "poem-1", "poem-2"]
    assert places == [f"{one}:1", f"{one}:2", f"{two}:1"]
    with pytest.raises(ValueError, match="no data file"):
        load_files([])
    with pytest.raises(ValueError, match=r"two\.jsonl:2: label"):
        load_files([one, write(two, GOOD, GOOD | {"label": 3})])


def test_a_table_of_texts_and_a_compressed_file_hold_the_same_rows(tmp_path: Path) -> None:
    rows = [GOOD, GOOD | {"label": 0, "group": "h"}]
    wanted = load_rows(write(tmp_path / "rows.jsonl", *rows))
    stream = io.StringIO(newline="")
    table = csv.DictWriter(stream, list(GOOD))
    table.writeheader()
    for row in rows:
        table.writerow({k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()})
    (tmp_path / "rows.csv").write_text(stream.getvalue())
    (tmp_path / "rows.gz").write_bytes(gzip.compress((tmp_path / "rows.jsonl").read_bytes()))
    (tmp_path / "rows.json").write_text(json.dumps(rows, indent=1))
    for name in ("rows.csv", "rows.gz", "rows.json"):
        assert load_rows(tmp_path / name) == wanted
    assert [row.label for row in wanted] == [1, 0]


def test_a_preference_is_no_label(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", {"prompt": "q", "chosen": "a", "rejected": "b"})
    with pytest.raises(ValueError, match=r"rows\.jsonl:1: label: is missing; .* shows the trait"):
        load_rows(path)
