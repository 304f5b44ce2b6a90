"""The page of `candor bon` says the numbers of its JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from candor.jobs.rollouts.bon import BonOptions, bon
from candor.jobs.running.exits import Exit
from tests.browser.opening import scored_row
from tests.pages import checked


def test_the_lines_and_the_table_are_those_of_the_report(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        scored_row(f"{n}", {f"{m}": (float(rng.normal()), float(rng.random())) for m in range(4)})
        for n in range(6)
    ]
    scored, out = tmp_path / "scored.jsonl", tmp_path / "bon.json"
    scored.write_text("\n".join(map(json.dumps, rows)))
    options = BonOptions(scored=scored, out=out, n="1,2,4", lambda_sweep=["syc=0,2"])
    assert bon(options) == Exit.DONE
    report = json.loads(out.read_bytes())
    page = checked((tmp_path / "bon.json.html").read_text())
    panels = {one["title"]: one["lines"] for one in page.data["plots"]["curves"]["panels"]}
    assert list(panels) == ["R", "S of syc", "reward"]
    for rule, line in zip(("base_reward", "reward"), panels["S of syc"], strict=True):
        entries = [entry["scores"]["syc"] for entry in report["chosen_by"][rule]]
        assert line["x"] == [1, 2, 4]
        assert line["y"] == [entry["mean"] for entry in entries]
        assert line["low"] == [entry["low"] for entry in entries]
    # At N = 4 every candidate is in the subset, so the choice is the best of all.
    best = np.mean([max(score["reward"] for score in row["scores"]) for row in rows])
    assert panels["reward"][1]["y"][-1] == pytest.approx(best)
    assert f"{best:.3f}" in page.seen
    assert "syc lambda 2" in page.seen
    assert len(page.data["groups"]) == 6
