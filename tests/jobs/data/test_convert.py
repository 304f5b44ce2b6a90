"""`candor data convert`: rows out in the forms of others, and a batch's answers back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from candor.jobs.data.convert import ConvertOptions, convert_rows
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import read_rows
from tests.jobs.formats.files import ASK, EXAMPLES, NO, USER, YES, jsonl, said, write


def run(source: Path, **options: Any) -> tuple[int, list[dict[str, Any]]]:
    out = source.parent / "out.jsonl"
    out.unlink(missing_ok=True)
    code = convert_rows(ConvertOptions(rows=source, out=out, **options))
    lines = out.read_bytes().splitlines() if out.exists() else []
    return code, [json.loads(line) for line in lines]


def source(folder: Path, *names: str) -> Path:
    return write(folder, "rows.jsonl", jsonl([EXAMPLES[name].row for name in names]))


def test_candors_rows_are_what_the_reader_gives(tmp_path: Path) -> None:
    rows = source(tmp_path, "RewardBench", "Alpaca", "HH")
    assert run(rows) == (Exit.DONE, read_rows(rows))


def test_every_chosen_is_paired_with_every_rejected(tmp_path: Path) -> None:
    code, rows = run(source(tmp_path, "RewardBench 2"), to="trl-preference")
    assert code == Exit.DONE
    meta = EXAMPLES["RewardBench 2"].meta
    pair = {"prompt": [USER], "chosen": [said(YES)], "meta": meta}
    assert rows == [
        {"key": "0/0", **pair, "rejected": [said(NO)]},
        {"key": "0/1", **pair, "rejected": [said("Red.")]},
    ]
    # TRL's rows are read again as what they were.
    first, second = read_rows(tmp_path / "out.jsonl")
    assert [one["text"] for one in second["responses"]] == [YES, "Red."]
    assert first["messages"] == [USER]


def test_rows_without_a_preference_are_named_and_the_rest_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, rows = run(source(tmp_path, "Alpaca", "HH"), to="trl-preference")
    assert (code, len(rows)) == (Exit.ROWS_FAILED, 1)
    assert "1 rows failed, the first: key " in capsys.readouterr().err
    code, rows = run(source(tmp_path, "Alpaca"), to="trl-preference")
    assert (code, rows) == (Exit.USAGE, [])
    assert "no response is marked as chosen" in capsys.readouterr().err


def answer(custom_id: str, *texts: str, status: int = 200) -> dict[str, Any]:
    choices = [
        {"index": n, "message": said(text), "finish_reason": "stop"} for n, text in enumerate(texts)
    ]
    body = {"id": "c", "model": "m-1", "choices": choices[::-1]}
    return {
        "id": "r",
        "custom_id": custom_id,
        "response": {"status_code": status, "body": body},
        "error": None,
    }


def test_a_batch_goes_out_and_comes_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = [{"id": n, "prompt": text} for n, text in enumerate((ASK, "Else?", "More?"))]
    rows = write(tmp_path, "prompts.jsonl", jsonl(prompts))
    code, requests = run(rows, to="openai-batch", model="m", n=2)
    assert code == Exit.DONE
    assert requests[0] == {
        "custom_id": "0",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "m", "n": 2, "messages": [USER]},
    }
    assert read_rows(tmp_path / "out.jsonl")[0]["messages"] == [USER]
    answers = write(
        tmp_path, "answers.jsonl", jsonl([answer("1", "x", status=500), answer("0", YES, NO)])
    )
    code, back = run(rows, answers=answers)
    assert code == Exit.ROWS_FAILED
    texts = [{"text": text, "finish_reason": "stop"} for text in (YES, NO)]
    assert back[0]["responses"] == texts
    assert (back[0]["key"], back[0]["messages"], back[0]["model"]) == ("0", [USER], "m-1")
    assert [row["error"]["type"] for row in back[1:]] == ["batch_failed", "no_answer"]
    assert "2 rows failed, the first: key '1': no choices" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "openai-batch"}, "--model goes with --to openai-batch, which needs it"),
        ({"model": "m"}, "--model goes with --to openai-batch"),
        ({"n": 2}, "--n is at least 1 and goes with --to openai-batch"),
        ({"to": "openai-batch", "model": "m", "answers": Path("a")}, "--answers goes with"),
        ({"answers": Path("gone")}, "--answers gone: No such file"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source(tmp_path, "Alpaca"), **options) == (Exit.USAGE, [])
    assert message in capsys.readouterr().err


def test_a_file_that_is_no_output_of_a_batch_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = write(tmp_path, "answers.jsonl", jsonl([{"prompt": "x"}]))
    assert run(source(tmp_path, "Alpaca"), answers=answers) == (Exit.USAGE, [])
    assert "answers.jsonl:1: has no 'custom_id' and 'response'" in capsys.readouterr().err
