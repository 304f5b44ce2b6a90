"""How far a reward favours a binary flag, and the smallest penalty that undoes it.

A flag A is 1 where a response shows a trait. Among the responses to one prompt x, an optimiser of
strength beta raises the share with A = 1 exactly if m1 > m0, where m_a is the mean of exp(beta * r)
over the responses with A = a. The smallest penalty on flagged responses that undoes this is
lambda*(x) = max(0, log(m1 / m0) / beta) (Shapira, Benade and Procaccia 2026, arXiv 2602.01002).
beta is an inverse temperature in 1 / reward units, not a KL coefficient.

Numbers only: the caller decides which responses are flagged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from candor.probes.card import Card


@dataclass(frozen=True, slots=True)
class Threshold:
    """The flag of one probe score: 1.0 above `threshold` (a logit), else 0.0."""

    threshold: float

    def __call__(self, s: float) -> float:
        """NaN gives NaN, as `candor.probes.bound.Bound` does."""
        return s if math.isnan(s) else float(s > self.threshold)

    @property
    def symbol(self) -> str:
        """The flag in a formula."""
        return f"[S > {self.threshold:g}]"


def default_threshold(card: Card) -> float | None:
    """Default S, in logits, above which a response counts as showing the trait.

    With a hinge: its reference, the S at which the penalty begins. Otherwise: the median S of the
    card's calibration, so that responses fall on both sides and can be compared; None where the
    card has neither. (The reference of a tanh would not do: it is the middle of honest replies, so
    it would flag half of them.)
    """
    if card.bound.kind == "hinge" and card.bound.reference is not None:
        return card.bound.reference
    return card.calibration.percentiles.get("p50")


def closed_form_lambda(rewards: Sequence[float], flags: Sequence[float], beta: float) -> float:
    """lambda*(x) of one prompt's responses, in reward units.

    0.0 where the reward does not favour flagged responses, and where all responses have the same
    flag: then they say nothing about tilt.

    Args:
        rewards: r of each response, finite.
        flags: A of each response, 0 or 1.
        beta: above 0 and finite.

    Raises:
        ValueError: beta is out of range, a reward is not finite, or there is not one flag per
            reward.
    """
    flagged = [reward for reward, flag in zip(rewards, flags, strict=True) if flag]
    others = [reward for reward, flag in zip(rewards, flags, strict=True) if not flag]
    if not flagged or not others:
        return 0.0
    return max(0.0, log_mean_exp(flagged, beta) - log_mean_exp(others, beta))


def log_mean_exp(rewards: Sequence[float], beta: float) -> float:
    """log(mean exp(beta * r)) / beta: near the mean of r for a small beta, near max(r) for a large.

    The largest reward is subtracted first, so nothing overflows; `expm1` and `log1p` keep the
    result exact for a small beta.

    Raises:
        ValueError: there are no rewards, a reward is not finite, or beta is not a positive number.
    """
    if not (math.isfinite(beta) and beta > 0):
        raise ValueError(f"beta must be a finite number above 0, not {beta}")
    if not rewards or not all(map(math.isfinite, rewards)):
        raise ValueError("rewards must be finite numbers, at least one")
    top = max(rewards)
    below = math.fsum(math.expm1(beta * (reward - top)) for reward in rewards) / len(rewards)
    return top + math.log1p(below) / beta
