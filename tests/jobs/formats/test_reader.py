"""Files in the forms that people have: each is read with the right values, or refused with the
sentence that helps (docs/formats.md)."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from candor.flags import UsageError
from candor.jobs.formats.reader import read
from candor.jobs.running.files import read_input
from tests.jobs.formats.files import (
    ASK,
    ASKED,
    EXAMPLES,
    KINDS,
    NO,
    REFUSED,
    USER,
    YES,
    Example,
    jsonl,
    parquet,
    said,
    table,
    write,
    zstandard,
)

ARROW = {"rows.parquet", "rows.jsonl.zst"}
"""Files that need pyarrow."""


def without_key(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "key"}


def other(example: Example) -> dict[str, Any]:
    """The same row about something else, so that a file has two rows."""
    text = json.dumps(example.row).replace("sea", "sky").replace('"q"', '"q2"')
    return {**json.loads(text), **({"id": 8} if "id" in example.row else {})}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_form_is_read_with_the_right_values_and_named(name: str, tmp_path: Path) -> None:
    example = EXAMPLES[name]
    found = read(write(tmp_path, "rows.jsonl", jsonl([example.row, other(example)])))
    assert without_key(found.rows[0]) == example.wanted
    assert found.rows[1] != found.rows[0]
    assert dict(found.forms) == {example.form: 2}
    assert found.unreadable == []


@pytest.mark.parametrize("name", REFUSED)
def test_a_form_that_cannot_be_read_is_refused_with_the_sentence_that_helps(
    name: str, tmp_path: Path
) -> None:
    row, message = REFUSED[name]
    source = write(tmp_path, "rows.jsonl", jsonl([row]))
    with pytest.raises(UsageError, match=rf"rows\.jsonl:1: .*{message}"):
        read_input(source)


@pytest.mark.parametrize("file", KINDS)
@pytest.mark.parametrize("form", ["TRL preference, plain", "TRL preference, conversational"])
def test_every_kind_of_file_holds_the_same_rows(file: str, form: str, tmp_path: Path) -> None:
    if file in ARROW:
        pytest.importorskip("pyarrow")
    example = EXAMPLES[form]
    long = {**example.row, "rejected": other(example)["rejected"]} | {"note": "é" * 200_000}
    source = write(tmp_path, file, KINDS[file]([example.row, long]))
    found = read(source)
    assert without_key(found.rows[0]) == example.wanted
    assert found.rows[1]["meta"] == {"note": "é" * 200_000}
    assert dict(found.forms) == {example.form: 2}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.zip", b"PK\x03\x04....", "is a zip archive; unpack it first"),
        ("rows.jsonl", '{"prompt": "x"}'.encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("rows.csv", "prompt\né\n".encode("latin-1"), "is not UTF-8; save it as 'CSV UTF-8'"),
        ("rows.csv", b"prompt,response\nx\n", "row 1: has another number of cells"),
        ("rows.csv", b"prompt,prompt\nx,y\n", "the first line must name the columns, each once"),
        ("rows.csv", b'prompt,response\n"x,y\n', "not CSV"),
        ("rows.arrow", b"ARROW1\x00\x00", r"Arrow file; .* dataset\.to_parquet"),
        (
            "rows.jsonl.gz",
            gzip.compress(b'{"prompt": "x"}' * 99, mtime=0)[:-9],  # ids without the hour
            "damaged or cut off",
        ),
        ("columns.json", b'{"prompt": {"0": "x", "1": "y"}}', r"columns, not rows; .*records"),
        ("list.json", b'["a", "b"]', "row 1: is a text, not an object with named fields"),
        ("rows.txt", b"Is the sea blue?\n", ":1: not JSON"),
        ("rows.jsonl", b'{"prompt": "x"}\n{"prompt": \n', ":2: not JSON"),
        ("rows.jsonl", b'{"prompt": \n{"prompt": "x"}\n', ":1: not JSON"),
        ("rows.json", b'[{"prompt": "x"}, {"prom', "not JSON"),
        ("rows.jsonl", b"\n", "no rows"),
        ("rows.csv", b"prompt\n", "no rows"),
        ("rows.json", b"[]", "no rows"),
    ],
)
def test_a_file_that_is_none_of_them_is_refused_by_what_it_is(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=rf"{name}.*{message}"):
        read_input(write(tmp_path, name, content))


def test_a_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder; give one of its files"):
        read_input(tmp_path)
    with pytest.raises(UsageError, match=r"gone\.jsonl: No such file"):
        read_input(tmp_path / "gone.jsonl")


@pytest.mark.parametrize("file", sorted(ARROW))
def test_without_the_package_a_file_says_what_to_install(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    source = write(tmp_path, file, KINDS[file]([EXAMPLES["Alpaca"].row]))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"needs pyarrow: pip install 'candor-rewards\[formats\]'"):
        read_input(source)


def test_damaged_parquet_and_zstandard_are_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    rows = [EXAMPLES["Alpaca"].row] * 9
    with pytest.raises(UsageError, match=r"rows\.parquet: not Parquet"):
        read_input(write(tmp_path, "rows.parquet", parquet(rows)[:-40]))
    with pytest.raises(UsageError, match=r"rows\.zst: the compressed file is damaged or cut off"):
        read_input(write(tmp_path, "rows.zst", zstandard(jsonl(rows))[:-12]))


def test_keys_come_from_the_row_or_are_hashes_that_stay(tmp_path: Path) -> None:
    prompt = {"prompt": ASK}

    def keys(*rows: dict[str, Any]) -> tuple[list[str], str]:
        found = read(write(tmp_path, "rows.jsonl", jsonl([*rows])))
        return [row["key"] for row in found.rows], found.keyed_by

    assert keys({"key": "a", "id": 1, **prompt}, {"key": "b", "id": 2, **prompt})[0] == ["a", "b"]
    assert keys({"id": 1, **prompt}, {"id": 2, **prompt}) == (["1", "2"], "id")
    batch = EXAMPLES["OpenAI batch"].row
    assert keys(batch, {**batch, "custom_id": "r"}) == (["q", "r"], "custom_id")
    assert keys({"prompt_id": "p", **prompt}) == (["p"], "prompt_id")
    # An id that two rows share, or that a row lacks, is no key.
    repeated, by = keys({"id": 1, **prompt}, {"id": 1, "prompt": "Else?"})
    assert by == ""
    assert len({*repeated}) == 2
    assert keys({"id": 1, **prompt}, prompt)[1] == ""
    # A hash depends on what is scored, not on the place or on other columns.
    (first, second, third), _ = keys(prompt, {"prompt": "Else?"}, {**prompt, "note": 1})
    assert keys({"prompt": "Else?"}, prompt)[0] == [second, first]
    assert third == f"{first}-2"


def test_some_keys_are_not_enough_and_equal_ones_are_refused(tmp_path: Path) -> None:
    for rows, message in (
        ([{"key": "a", "prompt": ASK}, {"prompt": ASK}], ":2: has no 'key'"),
        ([{"key": "a", "prompt": ASK}] * 2, ":2: key 'a' was used before"),
    ):
        with pytest.raises(UsageError, match=message):
            read_input(write(tmp_path, "rows.jsonl", jsonl(rows)))


def test_candors_own_rows_stay_as_they_are(tmp_path: Path) -> None:
    opening = {"key": "o", "messages": [USER, said("The")], "meta": {"stance": "wrong"}}
    scored = {"key": "s", "messages": [USER], "responses": [{"text": YES}], "scores": [{}]}
    failed = {"key": "f", "messages": [USER], "error": {"type": "t", "message": "m"}}
    step = {"key": "7", "step": 7, "text": "any"}
    rows = [opening, scored, failed, step]
    assert read(write(tmp_path, "rows.jsonl", jsonl(rows))).rows == rows
    # The same opening in a row without a key is a reply, as OpenAI's fine-tuning files have it.
    del opening["key"]
    (row,) = read(write(tmp_path, "rows.jsonl", jsonl([opening]))).rows
    assert row["responses"] == [{"text": "The"}]


def test_a_keyed_row_keeps_its_other_fields_beside(tmp_path: Path) -> None:
    pair = {"key": "a", "messages": [USER], "chosen": YES, "rejected": NO, "source": "s"}
    (row,) = read(write(tmp_path, "rows.jsonl", jsonl([pair]))).rows
    texts = [{"text": YES, "chosen": True}, {"text": NO, "chosen": False}]
    assert row == {"key": "a", "messages": [USER], "responses": texts, "source": "s"}


def test_a_table_of_prompts_with_keys(tmp_path: Path) -> None:
    rows = [{"key": "a", "messages": [USER]}, {"key": "b", "messages": [USER, said("The")]}]
    assert read(write(tmp_path, "rows.csv", table(rows))).rows == rows


def test_beside_a_key_a_prompt_is_what_it_is_over_http(tmp_path: Path) -> None:
    row = {"key": "a", "prompt": ASK, "responses": [YES]}
    (found,) = read(write(tmp_path, "rows.jsonl", jsonl([row]))).rows
    assert found == {"key": "a", "prompt": ASK, "responses": [{"text": YES}]}
    (asked,) = read(write(tmp_path, "rows.jsonl", jsonl([{"key": "a", "prompt": ASK}]))).rows
    assert asked == {"key": "a", **ASKED}  # a prompt to sample for


@pytest.mark.parametrize("context", [ASKED, {"prompt": ASK}])
def test_of_a_pair_one_side_may_be_missing(context: dict[str, Any], tmp_path: Path) -> None:
    rows = [{**context, "chosen": None, "rejected": NO}, {**context, "chosen": 5, "rejected": NO}]
    found = read(write(tmp_path, "rows.jsonl", jsonl(rows)))
    missing, wrong = found.rows
    assert missing["responses"] == [{"text": None, "chosen": True}, {"text": NO, "chosen": False}]
    assert "'chosen' is neither a text nor a message" in wrong["error"]["message"]


def test_a_malformed_response_is_left_to_fail_alone(tmp_path: Path) -> None:
    row = {"messages": [USER], "responses": [YES, 5, {"said": NO}, None]}
    (found,) = read(write(tmp_path, "rows.jsonl", jsonl([row]))).rows
    assert found["responses"] == [{"text": YES}, 5, {"said": NO}, None]


def test_a_row_that_is_not_of_its_form_fails_alone_and_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = EXAMPLES["ShareGPT"].row, REFUSED["a speaker that nobody knows"][0]
    source = write(tmp_path, "rows.jsonl", jsonl([good, bad, {**good, "x": 1}]))
    rows = read_input(source)
    assert [sorted(row) for row in rows] == [
        ["key", "messages", "responses"],
        ["error", "key"],
        ["key", "messages", "meta", "responses"],
    ]
    assert rows[1]["error"]["type"] == "invalid_row"
    assert "speaker 'narrator'" in rows[1]["error"]["message"]
    told = capsys.readouterr().err
    assert told.startswith(f"candor: {source}: 3 rows (ShareGPT); keys: hashes of the rows; ")
    assert f"1 rows cannot be read, the first: {source}:2: (ShareGPT) conv" in told


def test_the_terminal_is_told_the_forms_and_how_text_prompts_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        EXAMPLES[name].row for name in ("RewardBench", "Alpaca", "TRL prompt-completion, plain")
    ]
    read_input(write(tmp_path, "rows.jsonl", jsonl(rows)))
    told = capsys.readouterr().err
    assert "3 rows (1 of RewardBench and 1 of Alpaca and 1 of TRL prompt-completion)" in told
    assert "2 prompts are texts, read as the user's message" in told
    read_input(write(tmp_path, "rows.jsonl", jsonl([{"key": "a", **ASKED, "responses": [YES]}])))
    assert capsys.readouterr().err.endswith("rows.jsonl: 1 rows (Candor rows)\n")


def test_a_reply_that_looks_like_a_list_stays_a_text(tmp_path: Path) -> None:
    row = {"prompt": "[1, 2] reversed?", "chosen": '["b", "a"]', "rejected": "[2, 1]"}
    for name, content in (("rows.jsonl", jsonl([row])), ("rows.csv", table([row]))):
        (found,) = read(write(tmp_path, name, content)).rows
        assert found["messages"] == [{"role": "user", "content": "[1, 2] reversed?"}]
        assert [one["text"] for one in found["responses"]] == ['["b", "a"]', "[2, 1]"]


@pytest.mark.parametrize(
    "prompt",
    [
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>",
        "<s>[INST] Hi [/INST]",
        "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
        "USER: Hi ASSISTANT:".replace(" ASSISTANT", "\nASSISTANT"),
        "### Instruction:\nHi\n\n### Response:\n",
    ],
)
def test_a_prompt_in_any_usual_template_is_left_to_the_server(prompt: str, tmp_path: Path) -> None:
    row = {"prompt": prompt, "completion": YES}
    assert read(write(tmp_path, "rows.jsonl", jsonl([row]))).rows[0]["prompt"] == prompt


@pytest.mark.parametrize("prompt", ["Q: 2+2?\nAnswer:", "a < b | c > d", "Say: Human: x"])
def test_a_prompt_without_a_template_is_the_users_message(prompt: str, tmp_path: Path) -> None:
    (row,) = read(write(tmp_path, "rows.jsonl", jsonl([{"prompt": prompt}]))).rows
    assert row["messages"] == [{"role": "user", "content": prompt}]


def test_dates_and_absent_fields_of_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from datetime import datetime

    rows: list[dict[str, Any]] = [
        {"key": "a", "messages": [{**USER, "name": None}], "responses": [YES], "at": None},
        {"key": "b", "messages": [{**USER, "name": "x"}], "responses": [NO]},
    ]
    rows[1]["at"] = datetime(2026, 11, 30)
    first, second = read(write(tmp_path, "rows.parquet", parquet(rows))).rows
    assert first == {"key": "a", "messages": [USER], "responses": [{"text": YES}]}
    assert second["messages"] == [{**USER, "name": "x"}]
    assert second["at"].startswith("2026-11-30")


def test_scored_rows_in_parquet_keep_their_scores(tmp_path: Path) -> None:
    """Arrow fills the fields that only some structs have with null: an `error` that is null is no
    error."""
    pytest.importorskip("pyarrow")
    scores: list[dict[str, Any]] = [{"reward": 1.5}, {"error": {"type": "too_long"}}]
    rows = [{"key": "a", "messages": [USER], "responses": [{"text": YES}] * 2, "scores": scores}]
    assert read(write(tmp_path, "rows.parquet", parquet(rows))).rows == rows
