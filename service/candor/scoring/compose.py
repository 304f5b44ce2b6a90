"""How R and S become a reward: R minus the combined terms lambda * bound(S).

Pure floats; nothing here knows of models, requests or HTTP. The promise of the wire format is kept
here: `reward == base_reward - penalty`, to the bit, and with every lambda at 0 the reward is R
itself. A closed form takes its lambda from the responses of one group, so rewards are composed
group by group.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from candor.client.schema import PenaltyOverride
from candor.errors import CandorError, InvalidRequest, NonFiniteScore, UnknownProbe
from candor.item import Score
from candor.probes.bound import Bound
from candor.probes.card import Card
from candor.probes.combine import Combination
from candor.probes.fitting.calibrate import lambda_of
from candor.probes.tilt import Threshold, closed_form_lambda
from candor.scoring.served import Served, ServedProbe

SUM = Combination("sum")


@dataclass(frozen=True, slots=True)
class Penalty:
    """One probe's term: `lambda_` reward units per unit of `bound(S)`."""

    name: str
    lambda_: float
    bound: Bound | Threshold

    @property
    def symbol(self) -> str | None:
        """The term in a formula; None where lambda is 0."""
        return f"lambda*{self.bound.symbol}" if self.lambda_ != 0 else None


@dataclass(frozen=True, slots=True)
class ClosedFormPenalty:
    """A term whose lambda the group's responses decide (`candor.probes.tilt`)."""

    name: str
    beta: float
    flag: Threshold

    @property
    def symbol(self) -> str:
        return f"lambda(x)*{self.flag.symbol}"

    def for_group(self, scores: Sequence[Score]) -> Penalty:
        """The term for the responses of one group."""
        flags = [self.flag(score.readings[self.name].score) for score in scores]
        rewards = [score.base_reward for score in scores]
        return Penalty(self.name, closed_form_lambda(rewards, flags, self.beta), self.flag)


Term = Penalty | ClosedFormPenalty


@dataclass(frozen=True, slots=True)
class Composed:
    """A reward and what it is made of; `bounded` and `lambdas` are by probe name."""

    reward: float
    penalty: float
    bounded: dict[str, float]
    lambdas: dict[str, float]


def resolve(served: Served, overrides: Mapping[str, PenaltyOverride]) -> tuple[Term, ...]:
    """The penalties of one request: one term per penalised probe, in the order served.

    Raises:
        UnknownProbe: an override names a probe that is not served, or a monitor; the message is the
            same, so that guessing names tells an optimiser nothing.
    """
    if overrides.keys() - served.penalised.keys():
        known = ", ".join(repr(name) for name in served.penalised) or "none"
        raise UnknownProbe(f"'penalties' names a probe that is not served; served: {known}")
    return tuple(
        _penalty(name, probe, overrides.get(name)) for name, probe in served.penalised.items()
    )


def _penalty(name: str, probe: ServedProbe, override: PenaltyOverride | None) -> Term:
    """One probe's term; the card's spreads (both within prompt) turn kappa into lambda."""
    card = probe.loaded.card
    if override is not None and override.closed_form is not None:
        given = override.closed_form
        at = flag_threshold(card) if given.threshold is None else given.threshold
        return ClosedFormPenalty(name, given.beta, Threshold(at))
    strength = probe.default_lambda
    if override is not None and override.lambda_ is not None:
        strength = override.lambda_
    elif override is not None and override.kappa is not None:
        strength = lambda_of(override.kappa, card.calibration)
    return Penalty(name, strength, probe.bound)


def flag_threshold(card: Card) -> float:
    """Where S counts as the trait when nobody says: logits.

    A hinge's reference is where this probe's penalty begins. Without a hinge the card names no such
    point (the reference of a tanh is the middle of honest replies, and would flag half of them),
    and the median S of its calibration leaves both classes responses to be compared.

    Raises:
        InvalidRequest: the card has neither.
    """
    if card.bound.kind == "hinge" and card.bound.reference is not None:
        return card.bound.reference
    median = card.calibration.percentiles.get("p50")
    if median is None:
        raise InvalidRequest("the probe's card has no median S: give 'closed_form' a 'threshold'")
    return median


def compose_groups(
    places: Sequence[tuple[int, int]],
    scores: Sequence[Score],
    penalties: Sequence[Term],
    combination: Combination,
) -> list[Composed]:
    """The reward of every response of a request, in order.

    Args:
        places: (group, response) of each score; a group's responses stand together.

    Raises:
        NonFiniteScore: as `compose`, with the place set.
    """
    composed = []
    for _, members in groupby(zip(places, scores, strict=True), key=lambda pair: pair[0][0]):
        group = list(members)
        terms = for_group(penalties, [score for _, score in group])
        for place, score in group:
            try:
                composed.append(compose(score, terms, combination))
            except CandorError as error:
                raise error.at(*place) from None
    return composed


def for_group(penalties: Sequence[Term], scores: Sequence[Score]) -> list[Penalty]:
    """The penalties with every lambda known, for the responses of one group."""
    return [term if isinstance(term, Penalty) else term.for_group(scores) for term in penalties]


def compose(score: Score, penalties: Iterable[Penalty], combination: Combination = SUM) -> Composed:
    """The reward of one response.

    Terms are combined in the order given; a probe with a lambda of 0 has no term.

    Raises:
        NonFiniteScore: the penalty overflows (an absurd lambda), as JSON has no infinity.
    """
    terms: list[float] = []
    bounded: dict[str, float] = {}
    lambdas: dict[str, float] = {}
    for term in penalties:
        bounded[term.name] = term.bound(score.readings[term.name].score)
        lambdas[term.name] = term.lambda_
        if term.lambda_ > 0:
            terms.append(term.lambda_ * bounded[term.name])
    penalty = combination(terms)
    reward = score.base_reward - penalty
    if not math.isfinite(reward):
        raise NonFiniteScore("the penalty overflows a float; lower 'lambda' or 'kappa'")
    return Composed(reward=reward, penalty=penalty, bounded=bounded, lambdas=lambdas)


def formula(penalties: Iterable[Term], combination: Combination = SUM) -> str:
    """The reward as a line of text: `R - lambda*clip(S)`, probes named when there are several.

    A probe whose lambda is 0 has no part in the reward and none in the formula; `lambda(x)` depends
    on one group's responses.
    """
    active = [(term.symbol, term.name) for term in penalties if term.symbol is not None]
    if len(active) == 1:
        return f"R - {active[0][0]}"
    return "R" + combination.symbol([f"{symbol}[{name}]" for symbol, name in active])
