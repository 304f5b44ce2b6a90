"""What a run was asked to do: one frozen `Settings`, checked before anything is loaded.

Whatever decides the numbers is here and in `identity`, so that a rerun with something else is
refused instead of going on with half a run of each. Guards are apart: they only end a run.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from candor.jobs.running.exits import Exit, JobStopped
from candor.jobs.running.files import write_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The flags of `candor rl` that decide what is trained; docs there.

    Raises:
        JobStopped: (usage) at construction, for a value out of range.
    """

    steps: int
    group_size: int
    prompts_per_step: int
    learning_rate: float
    beta: float
    warmup_steps: int
    max_tokens: int
    temperature: float
    lora_rank: int
    generation: str
    seed: int
    eval_every: int
    eval_n: int
    save_every: int

    def __post_init__(self) -> None:
        for flag, value, least in (
            ("--steps", self.steps, 1),
            ("--group-size", self.group_size, 2),
            ("--prompts-per-step", self.prompts_per_step, 1),
            ("--warmup-steps", self.warmup_steps, 0),
            ("--max-tokens", self.max_tokens, 1),
            ("--lora-rank", self.lora_rank, 0),
            ("--eval-every", self.eval_every, 0),
            ("--eval-n", self.eval_n, 1),
            ("--save-every", self.save_every, 1),
        ):
            if value < least:
                raise JobStopped(Exit.USAGE, f"{flag} {value}: must be at least {least}")
        for name, number in (
            ("--learning-rate", self.learning_rate),
            ("--temperature", self.temperature),
        ):
            if not (math.isfinite(number) and number > 0):
                raise JobStopped(Exit.USAGE, f"{name} {number}: must be a number above 0")
        if not (math.isfinite(self.beta) and self.beta >= 0):
            raise JobStopped(Exit.USAGE, f"--beta {self.beta}: must be a number, at least 0")


@dataclass(frozen=True, slots=True)
class Guards:
    """What ends a run before its last step.

    Attributes:
        stop_on_alarm: an active drift alarm of the server.
        quality_floor: how far the mean R of the neutral held-out prompts may fall below its start,
            in reward units; None is no floor.
    """

    stop_on_alarm: bool
    quality_floor: float | None

    def __post_init__(self) -> None:
        if self.quality_floor is not None and not self.quality_floor >= 0:
            raise JobStopped(
                Exit.USAGE, f"--quality-floor {self.quality_floor}: must be a number, at least 0"
            )


def identity(settings: Settings, others: dict[str, Any]) -> dict[str, Any]:
    """Everything that decides the run, flat: the settings, and what else it is made from."""
    return {**asdict(settings), **others}


def claim(out: Path, wanted: dict[str, Any]) -> None:
    """Begin a run in `out`, or go on with the one there.

    Raises:
        JobStopped: (usage) a run of other settings is there; the message says which.
    """
    path = out / "run.json"
    wanted = orjson.loads(orjson.dumps(wanted))
    if not path.exists():
        write_json(path, wanted)
        return
    found = orjson.loads(path.read_bytes())
    other = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
    if other:
        told = ", ".join(f"{n}: {found.get(n)!r} there, now {wanted.get(n)!r}" for n in other)
        raise JobStopped(
            Exit.USAGE, f"{path}: a run of other settings ({told}); give another --out"
        )
