"""From the RM's scalar and the probes' readings to the reward: R minus the combined terms
lambda * bound(S).

Pure floats; knows nothing of models, requests or HTTP. The one promise of the wire format lives
here: `reward == base_reward - penalty`, to the bit, and with every lambda at 0 the reward is R
itself. A closed form has its lambda from the responses of one item, so rewards are composed item by
item.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from candor.client.schema import PenaltyOverride
from candor.errors import CandorError, InvalidRequest, NonFiniteScore, UnknownProbe
from candor.item import Score
from candor.probes.artifact import LoadedProbe
from candor.probes.bound import Bound
from candor.probes.card import Card
from candor.probes.combine import Combination
from candor.probes.fitting.calibrate import lambda_of
from candor.probes.tilt import Threshold, closed_form_lambda

SUM = Combination("sum")


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
    bound: Bound | Threshold

    @property
    def symbol(self) -> str | None:
        """The term in a formula; None where lambda is 0."""
        return f"lambda*{self.bound.symbol}" if self.lambda_ != 0 else None


@dataclass(frozen=True, slots=True)
class ClosedFormPenalty:
    """A term whose lambda the item's responses decide (`candor.probes.tilt`)."""

    name: str
    beta: float
    flag: Threshold

    @property
    def symbol(self) -> str:
        return f"lambda(x)*{self.flag.symbol}"

    def for_item(self, scores: Sequence[Score]) -> Penalty:
        """The term for the responses of one item."""
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


def resolve(
    served: Mapping[str, ServedProbe], overrides: Mapping[str, PenaltyOverride]
) -> tuple[Term, ...]:
    """The penalties of one request: every served probe but the monitors, in the order served.

    Raises:
        UnknownProbe: an override names a probe that is not served, or a monitor; the message is the
            same, so that guessing names tells an optimiser nothing.
    """
    penalised = {name: probe for name, probe in served.items() if not probe.monitor}
    if overrides.keys() - penalised.keys():
        known = ", ".join(repr(name) for name in penalised) or "none"
        raise UnknownProbe(f"'penalties' names a probe that is not served; served: {known}")
    return tuple(_penalty(name, probe, overrides.get(name)) for name, probe in penalised.items())


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
    return Penalty(name, strength, card.bound.build())


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


def compose_items(
    places: Sequence[tuple[int, int]],
    scores: Sequence[Score],
    penalties: Sequence[Term],
    combination: Combination,
) -> list[Composed]:
    """The reward of every response of a request, in order.

    Args:
        places: (item, response) of each score; an item's responses stand together.

    Raises:
        NonFiniteScore: as `compose`, with `item` and `response` set.
    """
    composed = []
    for _, members in groupby(zip(places, scores, strict=True), key=lambda pair: pair[0][0]):
        item = list(members)
        terms = for_item(penalties, [score for _, score in item])
        for place, score in item:
            try:
                composed.append(compose(score, terms, combination))
            except CandorError as error:
                raise error.at(*place) from None
    return composed


def for_item(penalties: Sequence[Term], scores: Sequence[Score]) -> list[Penalty]:
    """The penalties with every lambda known, for the responses of one item."""
    return [term if isinstance(term, Penalty) else term.for_item(scores) for term in penalties]


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

    A probe whose lambda is 0 has no part in the reward and none in the formula; `lambda(x)` is of
    one item's responses.
    """
    active = [(term.symbol, term.name) for term in penalties if term.symbol is not None]
    if len(active) == 1:
        return f"R - {active[0][0]}"
    return "R" + combination.symbol([f"{symbol}[{name}]" for symbol, name in active])
