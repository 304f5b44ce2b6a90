"""The phases of a start, read while they run."""

from __future__ import annotations

from candor.watch.startup import PHASES, StartUp
from tests.imports import loaded_by


def test_the_phases_follow_each_other_and_end() -> None:
    startup = StartUp()
    assert (startup.progress().step, startup.progress().phase, startup.ended) == (0, None, False)
    seen = []
    for phase in PHASES:
        startup.begin(phase)
        progress = startup.progress()
        assert progress.doing == PHASES[phase]
        assert 0 <= progress.phase_seconds <= progress.seconds
        seen.append(progress.step)
    assert seen == [1, 2, 3, 4, 5]
    startup.end()
    assert startup.ended
    ended = startup.progress()
    assert (ended.step, ended.phase, ended.doing) == (5, None, None)
    assert startup.progress().seconds == ended.seconds  # the clock of the start has stopped


def test_the_first_line_waits_for_no_large_library() -> None:
    loaded = loaded_by("from candor.watch.startup import StartUp")
    assert loaded.isdisjoint({"torch", "transformers", "fastapi"})
