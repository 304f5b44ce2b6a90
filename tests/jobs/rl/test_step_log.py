"""Rows a step on disk: they go back with the checkpoint, and a torn line is no row."""

from __future__ import annotations

from pathlib import Path

from candor.jobs.rl.step_log import StepLog


def test_rows_after_the_checkpoint_are_cut_and_written_again(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "steps.jsonl")
    for step in (1, 2, 3):
        log.append({"step": step, "kl": 0.1 * step})
    log.go_back(2)
    log.append({"step": 3, "kl": 9.0})
    assert [(row["key"], row["kl"]) for row in log.rows()] == [
        ("step-00001", 0.1),
        ("step-00002", 0.2),
        ("step-00003", 9.0),
    ]


def test_a_line_that_a_kill_cut_short_is_no_row(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "steps.jsonl")
    log.append({"step": 1})
    with log.path.open("ab") as file:
        file.write(b'{"key":"step-00002","st')
    assert [row["step"] for row in log.rows()] == [1]
    log.go_back(5)
    log.append({"step": 2})
    assert [row["step"] for row in log.rows()] == [1, 2]


def test_without_a_file_there_are_no_rows(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "steps.jsonl")
    log.go_back(0)
    assert log.rows() == []
