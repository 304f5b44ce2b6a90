"""What a probe's card says against using the probe as it is: for the log of a server, for
`GET /v1/probes`, and for a probe's report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from candor.probes.card import Card

MIN_WITHIN_PROMPT_AUROC = 0.65
"""Below it a penalty mostly lowers rewards at random among the responses to one prompt."""

CaveatType = Literal[
    "bound_can_raise_reward",
    "kappa_of_unbounded_score",
    "no_better_than_controls",
    "within_prompt_auroc_low",
    "within_prompt_auroc_unknown",
]


@dataclass(frozen=True, slots=True)
class Caveat:
    """One reason to hesitate: its type for programs, and for people what to do about it."""

    type: CaveatType
    message: str


def within_prompt_auroc(card: Card) -> float | None:
    """The card's AUROC among the responses to one prompt, on test rows; None where it has none."""
    test = card.metrics.get("test")
    found: Any = test.get("within_prompt_auroc") if isinstance(test, Mapping) else None
    return float(found) if isinstance(found, int | float) else None


def caveats(card: Card, *, monitor: bool = False, bounded: bool = True) -> list[Caveat]:
    """The caveats of one card.

    Args:
        monitor: whether the probe is a monitor: it has no penalty, so only its ranking matters.
        bounded: whether the probe's method uses bound(S).
    """
    found = [_ranking(card), _controls(card)]
    if bounded and not monitor:
        found += [_bound(card), _kappa(card)]
    return [caveat for caveat in found if caveat is not None]


def _ranking(card: Card) -> Caveat | None:
    value = within_prompt_auroc(card)
    if value is None:
        return Caveat(
            "within_prompt_auroc_unknown",
            "The card has no AUROC among the responses to one prompt, and best-of-N and GRPO "
            "compare nothing else. Train the probe again (candor probe train) on rows in which "
            "prompts have responses of both labels.",
        )
    if value >= MIN_WITHIN_PROMPT_AUROC:
        return None
    return Caveat(
        "within_prompt_auroc_low",
        f"Among the responses to one prompt the probe ranks with an AUROC of {value:.3f}, below "
        f"{MIN_WITHIN_PROMPT_AUROC}: it tells prompts apart more than responses, and its penalty "
        "is mostly noise to best-of-N and GRPO. Train on more responses of both labels per prompt, "
        "from the policy itself (candor data feedback), or do not penalise with this probe.",
    )


def _controls(card: Card) -> Caveat | None:
    """Compares the lower end of the probe's interval with each control that the card has: what a
    reader could have had without any activation, or without any label."""
    test, words, shuffled = (
        found if isinstance(found := card.metrics.get(part), Mapping) else {}
        for part in ("test", "words", "shuffled_labels")
    )
    within, overall = "within_prompt_auroc", "auroc"
    rivals = (
        ("the response's length", within, test.get("length_within_prompt_auroc")),
        ("the response's length", overall, test.get("length_auroc")),
        ("a bag of words", within, words.get(within)),
        ("a bag of words", overall, words.get(overall)),
        ("fits on shuffled labels", overall, shuffled.get("mean_auroc")),
    )
    lost = [
        f"{who} {value:.3f} ({'within' if measure is within else 'over all'} prompts)"
        for who, measure, value in rivals
        if value is not None and (least := _least(test, measure)) is not None and value >= least
    ]
    if not lost:
        return None
    return Caveat(
        "no_better_than_controls",
        "The probe is not clearly better than its controls: the lower end of the 95 % interval of "
        f"its AUROC is at or below that of {', '.join(lost)}. It may read nothing else: train on "
        "more rows whose label does not follow from these, and do not penalise with this probe.",
    )


def _least(test: Mapping[str, Any], measure: str) -> float | None:
    """The lower end of an AUROC's interval; the AUROC where it has no interval."""
    low = test.get(f"{measure}_low")
    found = test.get(measure) if low is None else low
    return float(found) if isinstance(found, int | float) else None


def _bound(card: Card) -> Caveat | None:
    if not card.bound.build().can_raise_reward:
        return None
    return Caveat(
        "bound_can_raise_reward",
        f"The bound ({card.bound.kind}) is negative for a low S, so there the penalty raises the "
        "reward. Fit one that does not: candor probe calibrate --bound hinge.",
    )


def _kappa(card: Card) -> Caveat | None:
    if card.calibration.std_bounded_S is not None:
        return None
    return Caveat(
        "kappa_of_unbounded_score",
        "The card was calibrated before std(bound(S)) was measured, so a kappa is taken by the old "
        "definition, lambda * std(S) / std(R), which promises a larger penalty than a bound lets "
        "through. Calibrate the probe again: candor probe calibrate.",
    )
