"""Rows a step on disk: they go back with the checkpoint, and a torn line is no row."""

from __future__ import annotations

from pathlib import Path

from candor.jobs.rl.journal import Journal


def test_rows_after_the_checkpoint_are_cut_and_written_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "steps.jsonl")
    for step in (1, 2, 3):
        journal.append({"step": step, "kl": 0.1 * step})
    journal.go_back(2)
    journal.append({"step": 3, "kl": 9.0})
    assert [(row["key"], row["kl"]) for row in journal.rows()] == [
        ("step-00001", 0.1),
        ("step-00002", 0.2),
        ("step-00003", 9.0),
    ]


def test_a_line_that_a_kill_cut_short_is_no_row(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "steps.jsonl")
    journal.append({"step": 1})
    with journal.path.open("ab") as file:
        file.write(b'{"key":"step-00002","st')
    assert [row["step"] for row in journal.rows()] == [1]
    journal.go_back(5)
    journal.append({"step": 2})
    assert [row["step"] for row in journal.rows()] == [1, 2]


def test_without_a_file_there_are_no_rows(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "steps.jsonl")
    journal.go_back(0)
    assert journal.rows() == []
