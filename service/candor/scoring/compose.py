"""Composes the reward from R and S: R minus the combined terms lambda * bound(S).

A probe's method (`candor.methods`) says where its term goes: into the penalty (subtract, screen),
beside the reward (advantage), or nowhere (project, whose effect is in R itself). This module
computes with floats only and knows no models, requests or HTTP. It keeps the wire format's promise:
`reward == base_reward - penalty`, to the bit, and with every lambda at 0 the reward is R itself. A
closed form computes its lambda from the responses of one group, so rewards are composed group by
group.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from candor.client.schema import Method, PenaltyOverride
from candor.errors import CandorError, InvalidRequest, NonFiniteScore, UnknownProbe
from candor.item import Score
from candor.probes.bound import Bound
from candor.probes.card import Card
from candor.probes.combine import Combination
from candor.probes.tilt import Threshold, closed_form_lambda, default_threshold
from candor.scoring.served import Served, ServedProbe

SUM = Combination("sum")


@dataclass(frozen=True, slots=True)
class Penalty:
    """One probe's term: `lambda_` reward units per unit of `bound(S)`."""

    name: str
    lambda_: float
    bound: Bound | Threshold
    method: Method = "subtract"

    @property
    def symbol(self) -> str | None:
        """The term in a formula; None if lambda is 0."""
        return f"lambda*{self.bound.symbol}" if self.lambda_ != 0 else None


@dataclass(frozen=True, slots=True)
class ClosedFormPenalty:
    """A term whose lambda is computed from the group's responses (`candor.probes.tilt`)."""

    name: str
    beta: float
    flag: Threshold
    method: Method = "subtract"

    @property
    def symbol(self) -> str:
        return f"lambda(x)*{self.flag.symbol}"

    def for_group(self, scores: Sequence[Score]) -> Penalty:
        """The term with the lambda for one group."""
        flags = [
            0.0 if score.is_empty else self.flag(score.readings[self.name].score)
            for score in scores
        ]
        rewards = [score.base_reward for score in scores]
        strength = closed_form_lambda(rewards, flags, self.beta)
        return Penalty(self.name, strength, self.flag, self.method)


Term = Penalty | ClosedFormPenalty


@dataclass(frozen=True, slots=True)
class Composed:
    """A reward and its parts; `bounded` and `lambdas` are by probe name.

    `advantage_penalty` combines the terms that are not in the reward. `screened`: a probe of the
    method `screen` flagged the response and its lambda is above 0.
    """

    reward: float
    penalty: float
    bounded: dict[str, float]
    lambdas: dict[str, float]
    advantage_penalty: float = 0.0
    screened: bool = False


def resolve(served: Served, overrides: Mapping[str, PenaltyOverride]) -> tuple[Term, ...]:
    """The penalties of one request: one term per penalised probe, in the order served.

    Raises:
        UnknownProbe: an override names a monitor, or a probe that is not served. The message is the
            same in both cases, so that an optimiser cannot find monitors by guessing names.
        InvalidRequest: an override that the probe's method does not have.
    """
    if overrides.keys() - served.penalised.keys():
        names = ", ".join(repr(name) for name in served.penalised) or "none"
        raise UnknownProbe(f"'penalties' names a probe that is not served; served: {names}")
    return tuple(
        _penalty(name, probe, overrides.get(name)) for name, probe in served.penalised.items()
    )


def _penalty(name: str, probe: ServedProbe, override: PenaltyOverride | None) -> Term:
    """One probe's term. The card's standard deviations (both within prompt) turn kappa into
    lambda."""
    card = probe.loaded.card
    if override is not None:
        refuse_conflict(name, probe.method, override)
    if override is not None and override.closed_form is not None:
        closed_form = override.closed_form
        threshold = closed_form.threshold
        at = flag_threshold(card) if threshold is None else threshold
        return ClosedFormPenalty(name, closed_form.beta, Threshold(at), probe.method)
    strength = probe.default_lambda
    if override is not None and override.lambda_ is not None:
        strength = override.lambda_
    elif override is not None and override.kappa is not None:
        strength = probe.lambda_of_kappa(override.kappa)
    return Penalty(name, strength, probe.counted, probe.method)


def refuse_conflict(name: str, method: Method, override: PenaltyOverride) -> None:
    """Refuses a strength that means nothing under the probe's method.

    Raises:
        InvalidRequest: the message names the probe, its method and the fix.
    """
    if method == "project":
        raise InvalidRequest(
            f"'penalties' names {name!r}, which this server projects out of the reward model "
            f"(--method project); that has no strength: leave {name!r} out of 'penalties'"
        )
    if method == "screen" and override.closed_form is not None:
        raise InvalidRequest(
            f"'penalties' gives {name!r} a 'closed_form', and this server screens by it (--method "
            "screen) with a fine of its own: give 'lambda' or 'kappa', the fine, or leave it out"
        )


def flag_threshold(card: Card) -> float:
    """`default_threshold` of the card.

    Raises:
        InvalidRequest: the card has none.
    """
    found = default_threshold(card)
    if found is None:
        raise InvalidRequest("the probe's card has no median S: give 'closed_form' a 'threshold'")
    return found


def compose_groups(
    places: Sequence[tuple[int, int]],
    scores: Sequence[Score],
    penalties: Sequence[Term],
    combination: Combination,
) -> list[Composed]:
    """The reward of every response of a request, in order.

    Args:
        places: (group, response) of each score; a group's responses are adjacent.

    Raises:
        NonFiniteScore: as in `compose`, with the item and the response set.
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
    """The penalties for one group, with every lambda computed."""
    return [term if isinstance(term, Penalty) else term.for_group(scores) for term in penalties]


def compose(score: Score, penalties: Iterable[Penalty], combination: Combination = SUM) -> Composed:
    """The reward of one response.

    Terms are combined in the order of `penalties`; a probe with a lambda of 0 has no term. A
    response without a token has only terms of 0.

    Raises:
        NonFiniteScore: lambda is so large that the penalty overflows; JSON has no infinity.
    """
    terms: list[float] = []
    apart: list[float] = []
    bounded: dict[str, float] = {}
    lambdas: dict[str, float] = {}
    screened = False
    for term in penalties:
        value = term.bound(score.readings[term.name].score)
        bounded[term.name] = 0.0 if score.is_empty else value
        lambdas[term.name] = term.lambda_
        if term.lambda_ > 0:
            charged = apart if term.method == "advantage" else terms
            charged.append(term.lambda_ * bounded[term.name])
            screened |= term.method == "screen" and bounded[term.name] > 0
    penalty, advantage_penalty = combination(terms), combination(apart)
    reward = score.base_reward - penalty
    if not (math.isfinite(reward) and math.isfinite(advantage_penalty)):
        raise NonFiniteScore("the penalty overflows a float; lower 'lambda' or 'kappa'")
    return Composed(
        reward=reward,
        penalty=penalty,
        bounded=bounded,
        lambdas=lambdas,
        advantage_penalty=advantage_penalty,
        screened=screened,
    )


def formula(penalties: Iterable[Term], combination: Combination = SUM) -> str:
    """The reward as a line of text, such as `R - lambda*clip(S)`. Probes are named if there are
    several.

    A probe whose lambda is 0 is in neither the reward nor the formula. `lambda(x)` stands for a
    lambda that depends on the group's responses. `R_without[NAME]` is the R of the model without
    the direction of a projected probe. What follows `; advantages:` is not in the
    reward.
    """
    known = list(penalties)
    without = [term.name for term in known if term.method == "project"]
    base = f"R_without[{', '.join(without)}]" if without else "R"
    inside = _terms([term for term in known if term.method in ("subtract", "screen")], combination)
    apart = _terms([term for term in known if term.method == "advantage"], combination)
    return base + inside + (f"; advantages:{apart}" if apart else "")


def _terms(penalties: Iterable[Term], combination: Combination) -> str:
    active = [(term.symbol, term.name) for term in penalties if term.symbol is not None]
    if len(active) == 1:
        return f" - {active[0][0]}"
    return combination.symbol([f"{symbol}[{name}]" for symbol, name in active])
