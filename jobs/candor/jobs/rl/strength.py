"""The penalty at each step: what was asked for, ramped up linearly over the first steps.

A policy that has just begun has much of the trait; a full penalty at once is most of its reward and
moves it fast, wherever the probe is wrong. Strengths are pinned at the start: a server that comes
back with other defaults changes nothing in the middle of a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from candor.jobs.rollouts.strengths import Penalties
from candor.jobs.running.exits import Exit, JobStopped

Strengths = dict[str, dict[str, float]]
"""By probe `{"lambda": x}` or `{"kappa": x}`."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Attributes:
    full: strength by probe once warmed up.
    warmup_steps: n; step t (from 0) has the share min(1, (t + 1) / n); 0 is no warm-up.
    """

    full: Strengths
    warmup_steps: int

    def share(self, step: int) -> float:
        """Of the full strength, at the step after `step` finished ones."""
        return 1.0 if self.warmup_steps == 0 else min(1.0, (step + 1) / self.warmup_steps)

    def at(self, step: int) -> Strengths:
        """`penalties` of the HTTP API: lambda is linear in kappa, so either ramps alike."""
        share = self.share(step)
        return {
            name: {unit: share * strength for unit, strength in one.items()}
            for name, one in self.full.items()
        }


def full_strengths(given: Penalties, probes: Sequence[Mapping[str, Any]]) -> Strengths:
    """Strength of every served probe: as given, or as served.

    Args:
        given: by probe, from the flags.
        probes: of `GET /v1/probes`.

    Raises:
        JobStopped: (usage) a probe that is not served.
    """
    served = {str(one["name"]): float(one["lambda"]) for one in probes}
    for name in given:
        if name not in served:
            known = ", ".join(served) or "none"
            raise JobStopped(Exit.USAGE, f"no probe {name!r} is served; served probes: {known}")
    return {
        name: {unit: float(str(x)) for unit, x in given[name].items()}
        if name in given
        else {"lambda": strength}
        for name, strength in served.items()
    }


def as_flags(strengths: Strengths) -> dict[str, list[str]]:
    """`penalty` and `kappa` of `candor score`."""
    flags: dict[str, list[str]] = {"penalty": [], "kappa": []}
    for name, one in strengths.items():
        for unit, strength in one.items():
            flags["penalty" if unit == "lambda" else unit].append(f"{name}={strength!r}")
    return flags
