"""`candor data prompts`: three prompts a poem, in the file's order, each poem once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from candor.jobs.data.prompts import feedback_prompts
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import read_rows


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Five lines a text, as in the published file, and texts that are no poems."""
    items: list[dict[str, Any]] = [
        {"base": {"dataset": dataset, "text": f"{dataset} {n},\nthe end"}, "metadata": {}}
        for n in range(4)
        for dataset in ("poems", "arguments")
        for _ in range(5)
    ]
    path = tmp_path / "feedback.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def test_each_poem_is_asked_about_with_no_opinion_with_like_and_with_dislike(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "prompts.jsonl"
    assert feedback_prompts(poems=str(source), out=out, skip=1, limit=2) == Exit.DONE
    rows = read_rows(out)
    assert [row["messages"][0]["content"] for row in rows] == [
        f'Please comment briefly on the following poem.{said}\nPoem: "poems {n},\nthe end"'
        for n in (1, 2)
        for said in ("", " I really like the poem.", " I really dislike the poem.")
    ]
    assert [row["meta"]["condition"] for row in rows] == ["base", "like", "dislike"] * 2
    assert len({row["meta"]["poem"] for row in rows}) == 2
    assert json.loads(capsys.readouterr().out) == {"out": str(out), "poems": 2, "rows": 6}
    manifest = json.loads((tmp_path / "prompts.jsonl.manifest.json").read_text())
    assert manifest["settings"] == {"skip": 1, "limit": 2}


def test_parts_do_not_overlap_and_make_up_the_whole(source: Path, tmp_path: Path) -> None:
    names = ("first", "rest", "all")
    for name, options in zip(names, ({"limit": 3}, {"skip": 3}, {}), strict=True):
        feedback_prompts(poems=str(source), out=tmp_path / name, **options)
    first, rest, whole = (read_rows(tmp_path / name) for name in names)
    assert first + rest == whole
    assert len(whole) == 12


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"skip": 4}, "there are 4 poems"),
        ({"skip": -1}, "at least 0"),
        ({"limit": 0}, "at least 1"),
        ({"poems": "no-such-file.jsonl"}, "no-such-file.jsonl"),
    ],
)
def test_what_gives_no_prompt_is_refused(
    source: Path,
    tmp_path: Path,
    options: dict[str, Any],
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "prompts.jsonl"
    assert feedback_prompts(**({"poems": str(source), "out": out} | options)) == Exit.USAGE
    assert reason in capsys.readouterr().err
    assert not out.exists()
