"""Progress lines for a log, at a clock of the test's own."""

from __future__ import annotations

import io

import pytest

from candor.jobs.running.progress import PlainProgress, duration, progress


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_lines_come_at_once_at_each_doubling_and_once_a_minute() -> None:
    clock, stream = Clock(), io.StringIO()
    bar = PlainProgress(1000, "score", "row", stream, clock)
    said: list[float] = []
    for _ in range(300):  # one row per second
        clock.seconds += 1
        before = stream.tell()
        bar.update()
        if stream.tell() > before:
            said.append(clock.seconds)
    bar.end()
    assert said == [5, 10, 20, 40, 80, 140, 200, 260]
    lines = stream.getvalue().splitlines()
    assert lines[0] == "candor: score: 1000 rows to do"
    assert lines[1] == "candor: score: 5 of 1000 rows, 1 per s, about 17 min left"
    assert lines[-1] == "candor: score: 300 of 1000 rows in 5 min"


def test_one_slow_step_gives_one_line() -> None:
    clock, stream = Clock(), io.StringIO()
    bar = PlainProgress(4, "activations", "response", stream, clock)
    clock.seconds = 500
    bar.update(2)
    bar.update(0)
    assert stream.getvalue().splitlines()[1:] == [
        "candor: activations: 2 of 4 responses, 0.004 per s, about 8 min left"
    ]


def test_off_a_terminal_there_are_lines_and_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(2, "score", "row") as bar:
        bar.update()
        bar.update()
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        "candor: score: 2 rows to do",
        "candor: score: 2 of 2 rows in 0 s",
    ]


def test_a_duration_is_in_the_unit_that_one_says() -> None:
    assert [duration(one) for one in (0.4, 99, 130, 7200)] == ["0 s", "99 s", "2 min", "2.0 h"]
