"""Kept rows give the figures of the scored rows, and take little room."""

from __future__ import annotations

import json
from pathlib import Path

from candor.jobs.grounded.judged import judged_prompts
from candor.jobs.running.files import read_rows, write_rows
from demo.grounded import summary
from demo.raw import keep, kept_rows
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
