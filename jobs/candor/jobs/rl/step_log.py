"""A JSONL file with one row per step that goes back with the run: rows after a checkpoint are cut.

A killed run leaves rows of steps that its last checkpoint does not know. Those steps are trained
again, and their rows are written again.
"""

from __future__ import annotations

from pathlib import Path

from candor.jobs.running.files import Row, parse_row, row_line, write_rows


class StepLog:
    """Rows in the order of their `step`.

    Args:
        path: the file. A row that a kill cut short is removed by the next run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[Row]:
        """The rows in the file, without a last line that was cut short."""
        found: list[Row] = []
        if self.path.exists():
            for number, line in enumerate(self.path.read_bytes().splitlines(keepends=True), 1):
                if line.endswith(b"\n"):
                    found.append(parse_row(line, f"{self.path}:{number}"))
        return found

    def go_back(self, step: int) -> None:
        """Keep the rows up to `step`."""
        write_rows(self.path, [row for row in self.rows() if row["step"] <= step])

    def append(self, row: Row) -> None:
        """Add `row`, with its key."""
        whole = {"key": step_key(row["step"]), **row}
        with self.path.open("ab") as file:
            file.write(row_line(whole))


def step_key(step: int) -> str:
    return f"step-{step:05d}"
