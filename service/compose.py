"""From the RM's scalar and the probes' readings to the reward: R minus lambda * bound(S), per
probe.

Pure floats; knows nothing of models, requests or HTTP. The one promise of the wire format lives
here: `reward == base_reward - penalty`, to the bit, and with every lambda at 0 the reward is R
itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from probes.artifact import LoadedProbe
from probes.bound import Bound
from service.batch import Score
from service.errors import NonFiniteScore, UnknownProbe
from service.schema import PenaltyOverride


@dataclass(frozen=True, slots=True)
class ServedProbe:
    """A loaded probe and the part it plays here.

    A monitor is read and recorded only: it has no penalty, and a caller can neither see it nor set
    it.
    """

    loaded: LoadedProbe
    default_lambda: float
    monitor: bool = False


@dataclass(frozen=True, slots=True)
class Penalty:
    """One probe's term: `lambda_` reward units per unit of `bound(S)`."""

    name: str
    lambda_: float
    bound: Bound


@dataclass(frozen=True, slots=True)
class Composed:
    """A reward and what it is made of; `bounded` and `lambdas` are by probe name."""

    reward: float
    penalty: float
    bounded: dict[str, float]
    lambdas: dict[str, float]


def resolve(
    served: Mapping[str, ServedProbe], overrides: Mapping[str, PenaltyOverride]
) -> tuple[Penalty, ...]:
    """The penalties of one request: every served probe but the monitors, in the order served.

    Raises:
        UnknownProbe: an override names a probe that is not served, or a monitor; the message is the
            same, so that guessing names tells an optimiser nothing.
    """
    penalised = {name: probe for name, probe in served.items() if not probe.monitor}
    if overrides.keys() - penalised.keys():
        known = ", ".join(repr(name) for name in penalised) or "none"
        raise UnknownProbe(f"'penalties' names a probe that is not served; served: {known}")
    return tuple(
        Penalty(name, _strength(probe, overrides.get(name)), probe.loaded.card.bound.build())
        for name, probe in penalised.items()
    )


def _strength(probe: ServedProbe, override: PenaltyOverride | None) -> float:
    """Lambda for one probe; the card's spreads (both within prompt) turn kappa into lambda."""
    if override is None:
        return probe.default_lambda
    if override.lambda_ is not None:
        return override.lambda_
    calibration = probe.loaded.card.calibration
    return (override.kappa or 0.0) * calibration.std_R / calibration.std_S


def compose(score: Score, penalties: Iterable[Penalty]) -> Composed:
    """The reward of one item.

    The penalty is summed in the order given, starting from 0.0; a lambda of 0 adds exactly 0.0.

    Raises:
        NonFiniteScore: the sum overflows (an absurd lambda), as JSON has no infinity.
    """
    penalty = 0.0
    bounded: dict[str, float] = {}
    lambdas: dict[str, float] = {}
    for term in penalties:
        bounded[term.name] = term.bound(score.readings[term.name].score)
        lambdas[term.name] = term.lambda_
        penalty += term.lambda_ * bounded[term.name]
    reward = score.base_reward - penalty
    if not math.isfinite(reward):
        raise NonFiniteScore("the penalty overflows a float; lower 'lambda' or 'kappa'")
    return Composed(reward=reward, penalty=penalty, bounded=bounded, lambdas=lambdas)


def formula(penalties: Iterable[Penalty]) -> str:
    """The reward as a line of text: `R - lambda*clip(S)`, probes named when there are several.

    A probe whose lambda is 0 has no part in the reward and none in the formula.
    """
    active = [term for term in penalties if term.lambda_ != 0]
    if len(active) == 1:
        return f"R - lambda*{active[0].bound.symbol}"
    return "R" + "".join(f" - lambda*{term.bound.symbol}[{term.name}]" for term in active)
