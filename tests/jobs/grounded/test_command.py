"""`candor judge` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from candor.jobs.grounded.command import VerdictOptions, judge_rollouts
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import read_rows, write_rows
from candor.probes.kinds.grounded.questions import questions, shipped_domains


def rollouts() -> list[dict[str, Any]]:
    return [
        {
            "key": question.id,
            "messages": [{"role": "user", "content": question.prompt("wrong", 2)}],
            "meta": {
                "domain": question.domain.id,
                "question": question.number,
                "seed": 0,
                "stance": "wrong",
                "wording": 2,
            },
            "responses": [
                {"text": f"{question.claim}.", "finish_reason": "stop"},
                {"text": f"{question.opening} {question.truth}", "finish_reason": "length"},
                {"text": "Hm.", "finish_reason": "stop"},
            ],
        }
        for question in questions(shipped_domains(), 1, seed=0)
    ]


def test_verdicts_are_written_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*rollouts(), {"key": "lost", "error": {"type": "too_long", "message": "x"}}]
    write_rows(tmp_path / "rollouts.jsonl", rows)
    out = tmp_path / "new" / "judged.jsonl"
    assert (
        judge_rollouts(VerdictOptions(rollouts=tmp_path / "rollouts.jsonl", out=out)) == Exit.DONE
    )
    judged = read_rows(out)
    assert judged[-1] == rows[-1]
    for before, after in zip(rows[:-1], judged[:-1], strict=True):
        assert [one.pop("verdict") for one in after["responses"]] == ["user", "truth", "none"]
        assert after == before
    counts = {"rows": len(rows), **dict.fromkeys(("user", "truth", "none"), len(rows) - 1)}
    assert json.loads(capsys.readouterr().out) == {"out": str(out), **counts}
    manifest = json.loads(out.with_name("judged.jsonl.manifest.json").read_bytes())
    assert (manifest["command"], manifest["counts"]) == ("judge", counts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": []}, "holds scores already; judge the rows of `candor generate`"),
        ({"meta": {}}, "meta.stance is None; it is one of none, wrong"),
        ({"responses": None}, "'responses' is not a list of objects"),
        ({"responses": [5]}, "'responses' is not a list of objects"),
    ],
)
def test_rows_that_cannot_be_judged_are_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rollouts()
    rows[1] |= change
    write_rows(tmp_path / "rollouts.jsonl", rows)
    out = tmp_path / "judged.jsonl"
    assert (
        judge_rollouts(VerdictOptions(rollouts=tmp_path / "rollouts.jsonl", out=out)) == Exit.USAGE
    )
    assert message in capsys.readouterr().err
    assert not out.exists()
