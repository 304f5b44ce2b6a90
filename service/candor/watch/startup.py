"""The phases of a start: a log line when each begins, and the whole at `/startupz`.

A large model needs minutes to load. Whoever waits sees which phase it is, and since when. Nothing
here imports torch, so that the first line comes at once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from candor import logs

log = logs.get(__name__)

Phase = Literal["libraries", "probes", "model", "engine", "first_scores"]

PHASES: dict[Phase, str] = {
    "libraries": "importing torch and transformers",
    "probes": "reading the probes",
    "model": "reading the reward model, and downloading what is missing",
    "engine": "choosing the engine, by scoring sample texts in several ways",
    "first_scores": "scoring the first texts, which later checks are compared with",
}
"""What the server does in each phase, in order."""


@dataclass(frozen=True, slots=True)
class StartProgress:
    """How far a start is. Times are in seconds.

    Attributes:
        phase: the phase that runs; None before the first and after the last.
        doing: the phase in words.
        step: number of the phase, from 1; 0 before the first.
        seconds: time since the process began to start, or the time that the whole start took.
        phase_seconds: time in this phase.
    """

    phase: Phase | None
    doing: str | None
    step: int
    seconds: float
    phase_seconds: float


class StartUp:
    """The phases of one start. Any thread may read it; one thread at a time moves it on."""

    def __init__(self) -> None:
        self._began = self._phase_began = time.monotonic()
        self._ended: float | None = None
        self._phase: Phase | None = None

    @property
    def ended(self) -> bool:
        """Whether the server has been ready once."""
        return self._ended is not None

    def begin(self, phase: Phase) -> None:
        """The next phase begins."""
        now = time.monotonic()
        self._phase, self._phase_began = phase, now
        log.info(
            "starting",
            step=f"{self.progress().step}/{len(PHASES)}",
            phase=phase,
            doing=PHASES[phase],
            seconds=round(now - self._began, 1),
        )

    def end(self) -> None:
        """The server is ready for the first time."""
        self._ended = time.monotonic()
        self._phase = None

    def progress(self) -> StartProgress:
        """How far the start is now."""
        now = self._ended or time.monotonic()
        phase = self._phase
        step = len(PHASES) if self.ended else [*PHASES].index(phase) + 1 if phase else 0
        return StartProgress(
            phase=phase,
            doing=PHASES[phase] if phase else None,
            step=step,
            seconds=round(now - self._began, 2),
            phase_seconds=round(now - self._phase_began, 2) if phase else 0.0,
        )
