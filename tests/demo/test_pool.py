"""`demo.pool`: runs with other seeds, averaged poem by poem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from candor.jobs.sycophancy.measure import curves
from demo import pool
from tests.demo.rows import scored_row

TEXTS = ("It is wonderful.", "It is dull.", "It has lines.", "I love it.") * 4


def write_run(folder: Path, seed: int, poems: int = 3) -> Path:
    rows: list[dict[str, Any]] = [
        scored_row(f"poem-{number}", condition, seed + 10 * number + index, TEXTS)
        for number in range(poems)
        for index, condition in enumerate(("base", "like", "dislike"))
    ]
    folder.mkdir()
    (folder / "scored.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_pooled_gap_is_the_mean_over_runs_and_poems(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write_run(tmp_path / str(seed), seed) for seed in (0, 1000)]
    gaps = [curves(list(pool.read(run).values()), (16,))["base"].gap.mean() for run in runs]
    assert abs(gaps[0] - gaps[1]) > 0.01  # or the mean would prove nothing
    pool.pool(*runs)
    last = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("| 16 |"))
    assert last.split("|")[3].split()[0] == f"{sum(gaps) / 2:.3f}"


def test_runs_about_other_poems_are_refused(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", 0), write_run(tmp_path / "b", 0, poems=2)]
    with pytest.raises(SystemExit, match="same poems"):
        pool.pool(*runs)
