"""`candor data feedback`: labels follow the judge, and what the judge does not say is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from candor.jobs.data.feedback import DataFeedbackOptions, Rule, feedback
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import write_rows
from candor.probes.fitting.data import load_rows

GOOD = "A wonderful, beautiful poem."
BAD = "A terrible, ugly poem."
FLAT = "It has four lines."


def row(poem: str, condition: str, *texts: str) -> dict[str, object]:
    return {
        "key": f"{poem}-{condition}",
        "messages": [{"role": "user", "content": f"{condition}: comment on {poem}"}],
        "meta": {"poem": poem, "condition": condition},
        "responses": [{"text": text} for text in texts],
    }


def build(
    tmp_path: Path, rows: list[dict[str, object]], rule: Rule = "siding", **more: float
) -> int:
    write_rows(tmp_path / "rollouts.jsonl", rows)
    out = tmp_path / "rows.jsonl"
    return feedback(
        DataFeedbackOptions(rollouts=tmp_path / "rollouts.jsonl", out=out, rule=rule, **more)
    )


def labels(tmp_path: Path) -> list[tuple[str | None, str, int]]:
    return [(r.direction, r.response, r.label) for r in load_rows(tmp_path / "rows.jsonl")]


SEA = [
    row("sea", "base", FLAT, GOOD),
    row("sea", "like", GOOD, BAD, FLAT, ""),
    row("sea", "dislike", BAD, GOOD),
]


def test_siding_is_by_each_comments_own_sentiment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(tmp_path, SEA) == Exit.DONE
    assert labels(tmp_path) == [
        (None, FLAT, 0),
        (None, GOOD, 0),  # praise with nobody to flatter
        ("like", GOOD, 1),
        ("like", BAD, 0),  # FLAT leans nowhere, and an empty comment is none
        ("dislike", BAD, 1),
        ("dislike", GOOD, 0),
    ]
    said = json.loads(capsys.readouterr().out)
    assert (said["rows"], said["label_1"], said["poems"]) == (6, 2, 1)
    manifest = json.loads((tmp_path / "rows.jsonl.manifest.json").read_text())
    assert manifest["settings"]["data_sha256"] == said["sha256"]


def test_a_comment_that_sides_only_a_little_is_left_out(tmp_path: Path) -> None:
    assert build(tmp_path, SEA, margin=0.99) == Exit.USAGE  # then none sides clearly
    mild = [*SEA, row("hill", "like", "It is fine.", GOOD)]
    assert build(tmp_path, mild) == Exit.DONE
    assert ("like", "It is fine.", 0) not in labels(tmp_path)
    assert ("like", "It is fine.", 1) not in labels(tmp_path)


def test_the_papers_rule_pairs_an_answer_with_the_base_answer_after_the_same_prompt(
    tmp_path: Path,
) -> None:
    rows = [
        row("sea", "base", FLAT, FLAT, GOOD),
        row("sea", "like", GOOD, BAD, GOOD),
        row("sea", "dislike", BAD, BAD, BAD),
    ]
    # The second triple is no flattery after "like"; in the third, like is not above base.
    assert build(tmp_path, rows, "paper") == Exit.DONE
    found = load_rows(tmp_path / "rows.jsonl")
    assert [(r.direction, r.response, r.label) for r in found] == [
        ("like", GOOD, 1),
        ("like", FLAT, 0),
        ("dislike", BAD, 1),
        ("dislike", FLAT, 0),
    ]
    assert found[0].messages == found[1].messages
    assert found[2].messages == found[3].messages
    assert {r.group for r in found} == {"policy-feedback/sea"}


def test_a_poem_that_lacks_a_condition_has_no_pairs_and_failed_rows_do_not_count(
    tmp_path: Path,
) -> None:
    failed = {"key": "x", "error": {"type": "timeout", "message": "late"}}
    rows = [*SEA, row("hill", "like", GOOD), failed]
    assert build(tmp_path, rows, "paper") == Exit.DONE
    assert {r.group for r in load_rows(tmp_path / "rows.jsonl")} == {"policy-feedback/sea"}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"key": "a", "responses": []}], "key 'a': a feedback rollout has messages"),
        ([row("sea", "love", GOOD)], "meta.condition must be one of base, like, dislike"),
        ([row("sea", "like", GOOD)], "without both labels"),
        ([{"key": "x", "error": {"type": "t", "message": "m"}}], "no row has responses"),
    ],
)
def test_what_is_no_feedback_is_refused_by_name(
    tmp_path: Path,
    rows: list[dict[str, object]],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert build(tmp_path, rows) == Exit.USAGE
    assert said in capsys.readouterr().err
    assert not (tmp_path / "rows.jsonl").exists()


def test_a_margin_out_of_range_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(tmp_path, SEA, margin=1.0) == Exit.USAGE
    assert "--margin 1.0" in capsys.readouterr().err
