"""The strength of the penalty at each step: it grows linearly over the first steps.

At the start a policy has much of the trait, so a full penalty would be most of its reward and would
move it fast, also where the probe is wrong. Strengths are fixed at the start of a run: a server
that comes back with other defaults changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from candor.flags import UsageError
from candor.jobs.rollouts.strengths import Penalties

Strengths = dict[str, dict[str, float]]
"""`{"lambda": x}` or `{"kappa": x}` by probe."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Attributes:
    full: strength by probe after the warm-up.
    warmup_steps: n. Step t (from 0) has the share min(1, (t + 1) / n) of the full strength. With
        n = 0 there is no warm-up.
    """

    full: Strengths
    warmup_steps: int

    def share(self, step: int) -> float:
        """Share of the full strength after `step` finished steps."""
        return 1.0 if self.warmup_steps == 0 else min(1.0, (step + 1) / self.warmup_steps)

    def at(self, step: int) -> Strengths:
        """`penalties` of the HTTP API after `step` finished steps. lambda is linear in kappa, so
        both grow in the same way."""
        share = self.share(step)
        return {
            name: {unit: share * strength for unit, strength in full.items()}
            for name, full in self.full.items()
        }


def full_strengths(given: Penalties, probes: Sequence[Mapping[str, Any]]) -> Strengths:
    """Strength of every served probe's penalty: as given, or as served. A projected probe has none.

    Args:
        given: strength by probe, from the flags.
        probes: the probes of `GET /v1/probes`.

    Raises:
        UsageError: a given probe is not served or is projected, or a probe's penalty is not in the
            reward (`--method advantage`).
    """
    methods = {str(probe["name"]): probe.get("method", "subtract") for probe in probes}
    for name, method in methods.items():
        if method == "advantage":
            raise UsageError(
                f"probe {name!r} is served with --method advantage, so the reward is R alone and "
                "this run would train without a penalty: serve it with --method subtract, or train "
                "with candor.client.trl_advantages"
            )
        if method == "project" and name in given:
            raise UsageError(f"probe {name!r} is served with --method project: it has no strength")
    served = {
        str(probe["name"]): float(probe["lambda"])
        for probe in probes
        if methods[str(probe["name"])] != "project"
    }
    for name in given:
        if name not in served:
            names = ", ".join(served) or "none"
            raise UsageError(f"no probe {name!r} is served; served probes: {names}")
    return {
        name: {unit: float(str(x)) for unit, x in given[name].items()}
        if name in given
        else {"lambda": strength}
        for name, strength in served.items()
    }


def as_flags(strengths: Strengths) -> dict[str, list[str]]:
    """The options `penalty` and `kappa` of `candor score`."""
    flags: dict[str, list[str]] = {"penalty": [], "kappa": []}
    for name, by_unit in strengths.items():
        for unit, strength in by_unit.items():
            flags["penalty" if unit == "lambda" else unit].append(f"{name}={strength!r}")
    return flags
