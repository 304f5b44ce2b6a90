"""How long a demo says it takes: what it measured, and what is left."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from candor.jobs.running.files import write_rows
from demo.pace import Pace, Runs, Steps, measure, num_left, say_pace, say_plan
from tests.jobs.stub import running_stub

ROWS = [
    {"messages": [{"role": "user", "content": f"Is {n} good?"}], "response_prefix": "It"}
    for n in range(9)
]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_plan_says_what_is_done_in_which_steps(capsys: pytest.CaptureFixture[str]) -> None:
    say_plan("This asks.", ["draw", "score"], "It takes as long as it takes.")
    assert capsys.readouterr().err.splitlines() == [
        "This asks.",
        "  1 of 2: draw",
        "  2 of 2: score",
        "It takes as long as it takes.",
    ]


def test_prompts_are_timed_together_on_servers_that_have_answered_before() -> None:
    with running_stub() as stub:
        stub.delay_s = 0.4  # per request, however many there are at once
        began = time.monotonic()
        pace = measure(stub.url, "tiny", stub.url, ROWS, 6, temperature=0.8, max_tokens=5)
        took = time.monotonic() - began
    # Both servers answered once before. One after the other, the draws would take 0.4 s each.
    assert 0.1 <= pace.score_s <= 4 * (pace.draw_s + pace.score_s) <= took - 0.8
    assert 0.1 <= pace.draw_s < 0.4
    _, _, *drawn, scored = stub.bodies
    assert [(one["n"], one["max_tokens"]) for one in drawn] == [(6, 5)] * 4
    assert [item["messages"] for item in scored["items"]] == [row["messages"] for row in ROWS[1:5]]
    assert all(len(item["responses"]) == 6 for item in scored["items"])
    assert all(text.startswith("It") for item in scored["items"] for text in item["responses"])


def test_the_time_is_what_is_left_at_the_measured_pace() -> None:
    words = Pace(draw_s=2.0, score_s=0.5).words(num_to_draw=60, num_to_score=120)
    assert words.endswith("take about 3 min")  # 60 * 2.0 + 120 * 0.5 = 180 s
    assert Pace(2.0, 0.5).words(0, 20).endswith("take about 10 s")


def test_rows_that_are_done_are_not_left_and_failed_rows_are(tmp_path: Path) -> None:
    out = tmp_path / "scored.jsonl"
    assert num_left(3, out) == 3
    write_rows(out, [{"key": "a"}, {"key": "b", "error": {"type": "x", "message": "y"}}])
    assert num_left(3, out) == 2


def test_nothing_is_timed_where_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"key": name} for name in "abcd"]
    for name, done in (("prompts", 4), ("rollouts", 4), ("scored", 1)):
        write_rows(tmp_path / f"{name}.jsonl", rows[:done])
    say_pace(tmp_path, lambda: Pace(10.0, 20.0))
    assert "the 0 prompts to draw and the 3 to score take about 60 s" in capsys.readouterr().err
    write_rows(tmp_path / "scored.jsonl", rows)
    say_pace(tmp_path, lambda: pytest.fail("timed"))
    assert capsys.readouterr().err == ""


def test_runs_tell_what_is_left_by_the_runs_that_have_ended(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    runs = Runs(4, clock)
    runs.skip("a")
    clock.now += 7.0  # not a run's time
    runs.begin("b")
    clock.now += 300.0
    runs.begin("c")
    clock.now += 500.0
    runs.begin("d")
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["run 1 of 4, a: has ended already", "run 2 of 4, b"]
    assert "about 10 min left (5 min per run so far)" in said[2]
    assert "about 7 min left (7 min per run so far)" in said[3]  # 800 s / 2


def test_steps_say_how_long_the_plan_has_taken(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    steps = Steps(2, clock)
    steps.begin()
    clock.now += 42.0
    steps.begin()
    assert re.fullmatch(r"step 1 of 2\nstep 2 of 2, after 42 s\n", capsys.readouterr().err)
