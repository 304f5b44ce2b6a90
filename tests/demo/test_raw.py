"""Kept rows give the figures of the scored rows, and take little room."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from candor.flags import UsageError
from candor.jobs.grounded.judged import judged_prompts
from candor.jobs.running.files import read_rows, write_rows
from demo.grounded import summary
from demo.raw import keep, kept_rows, kept_runs
from demo.results import results
from tests.demo.grounded.made import NULLS, flattered, scored


def test_kept_rows_give_the_same_figures(tmp_path: Path) -> None:
    whole, kept = tmp_path / "scored.jsonl", tmp_path / "raw" / "grounded.jsonl.gz"
    rows = scored(flattered)
    for row in rows:
        for score in row["scores"]:
            score |= {"num_tokens": 20, "truncated": False}
    write_rows(whole, rows)
    keep(whole, kept)
    found = [
        summary.as_json(summary.measure(judged_prompts(path, some), NULLS, None), Path("page"))
        for path, some in ((whole, read_rows(whole)), (kept, kept_rows(kept)))
    ]
    assert found[0] == found[1]
    assert "num_tokens" not in json.dumps(kept_rows(kept)[0])
    assert kept.stat().st_size < whole.stat().st_size / 5
    # The same rows make the same file: a change in the repository is a change of figures.
    again = tmp_path / "again.jsonl.gz"
    keep(whole, again)
    assert again.read_bytes() == kept.read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"nothing: holds no run"),
        ('{"arm": "R", ', r"a\.json: cannot be read as JSON"),
        ("[]", r"a\.json: is no run"),
        ('{"arm": "R"}', r"a\.json: is no run"),
    ],
)
def test_a_folder_that_holds_no_runs_is_refused_by_name(
    text: str | None, message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "nothing"
    folder.mkdir()
    if text is not None:
        (folder / "a.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        kept_runs(folder)


def test_runs_come_by_arm_and_seed(tmp_path: Path) -> None:
    runs = [{"arm": "b", "seed": 2}, {"arm": "b", "seed": 10}, {"arm": "a", "seed": 3}]
    for number, run in enumerate(runs):
        (tmp_path / f"{number}.json").write_text(json.dumps(run))
    assert kept_runs(tmp_path) == [runs[2], runs[0], runs[1]]


def test_tables_of_no_rows_are_refused_and_not_an_empty_success(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no kept rows"):
        results(raw=tmp_path, pictures=tmp_path)


@pytest.mark.parametrize("module", ["demo.rl.summary", "demo.evasion.summary"])
def test_the_tables_commands_say_it_in_a_line(module: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", module, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "holds no run" in done.stderr
    assert "Traceback" not in done.stderr
