"""`candor inspect`: what the page holds, what it leaves out, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from candor.jobs.inspect.command import inspect
from candor.jobs.pages import scored as pages
from candor.jobs.running.exits import Exit
from tests.browser.opening import scored_row
from tests.pages import checked

ATTACK = "</script><script>alert(1)</script>"


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "scored.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_the_page_holds_the_rows_and_counts_the_flips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        scored_row("flips", {"flatters": (2.0, 3.0), ATTACK: (1.0, 0.0)}),
        scored_row("stays", {"best": (2.0, 0.0), "other": (1.0, 1.0)}),
        scored_row("tie", {"first": (1.0, 0.0), "second": (1.0, 0.0)}),
    ]
    assert inspect(written(tmp_path, rows)) == Exit.DONE
    said = json.loads(capsys.readouterr().out)
    assert (said["prompts"], said["flips"]) == (3, 1)
    page = checked(Path(said["page"]).read_text(encoding="utf-8"))
    assert [group["key"] for group in page.data["groups"]] == ["flips", "stays", "tie"]
    candidate = page.data["groups"][0]["candidates"][1]
    assert (candidate["text"], candidate["base_reward"]) == (ATTACK, 1.0)
    assert "1 of 3" in page.seen
    assert page.data["model"]["methods"] == {"syc": "subtract"}


def test_a_response_without_a_score_is_told_apart(tmp_path: Path) -> None:
    row = scored_row("a", {"x": (1.0, 0.0), "y": (0.0, 0.0)})
    row["scores"][0] = {"error": {"type": "too_long", "message": "it is too long"}}
    assert inspect(written(tmp_path, [row])) == Exit.DONE
    (group,) = checked((tmp_path / "scored.jsonl.html").read_text()).data["groups"]
    assert [one["place"] for one in group["candidates"]] == [1]
    assert group["failed"] == [{"place": 0, "message": "it is too long"}]
    assert group["responses"] == ["x", "y"]


def test_rows_that_do_not_fit_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_CANDIDATES", 5)
    rows = [scored_row(str(n), {"x": (1.0, 0.0), "y": (0.0, 0.0)}) for n in range(4)]
    assert inspect(written(tmp_path, rows), out=tmp_path / "p.html") == Exit.DONE
    said = capsys.readouterr()
    assert "2 more are left out" in said.err
    page = checked((tmp_path / "p.html").read_text())
    assert len(page.data["groups"]) == 2
    assert "2 more are left out" in page.seen


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: row.pop("scores"), "no row has scores"),
        (lambda row: row["scores"][0].update(reward=9.0), "not what its own parts make"),
        (lambda row: row.pop("reward_model"), "does not say which reward model"),
    ],
)
def test_rows_that_are_not_whole_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, said: str
) -> None:
    row = scored_row("a", {"x": (1.0, 0.0)})
    change(row)
    assert inspect(written(tmp_path, [row])) == Exit.USAGE
    assert said in capsys.readouterr().err
    assert not (tmp_path / "scored.jsonl.html").exists()
