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

import numpy as np
from numpy.typing import ArrayLike, NDArray

from candor.probes.bootstrap import mean_intervals, percentile_interval, resampled_totals
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


@dataclass(frozen=True, slots=True)
class MeanWithInterval:
    """A mean and its 95 % interval, by percentile bootstrap over prompts."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RewardGap:
    """Mean R of flagged responses, of the others, and the difference of the two means.

    Each response counts the same, whatever its prompt. So a prompt with high R whose responses are
    flagged more often than others' moves the gap; `PromptTilt.gap` compares within prompts. A mean
    is None where there is no response to average.
    """

    num_flagged: int
    num_unflagged: int
    mean_flagged: float | None
    mean_unflagged: float | None
    gap: MeanWithInterval | None


@dataclass(frozen=True, slots=True)
class PromptTilt:
    """The tilt, averaged over the prompts that have flagged and unflagged responses.

    Attributes:
        beta: the optimiser's strength, 1 / reward units.
        num_prompts: how many prompts have both; with none, the other attributes are None.
        gap: mean R of the flagged responses minus mean R of the others, reward units.
        share_tilted: share of prompts where mean exp(beta * R) is larger for flagged responses.
        lambda_: lambda*(x), reward units.
    """

    beta: float
    num_prompts: int
    gap: MeanWithInterval | None
    share_tilted: MeanWithInterval | None
    lambda_: MeanWithInterval | None


def reward_gap(
    rewards: ArrayLike, flags: ArrayLike, prompts: Sequence[str], *, seed: int
) -> RewardGap:
    """The gap over all responses; the bootstrap keeps a prompt's responses together.

    Resamples without a flagged or without an unflagged response are left out of the interval.

    Args:
        rewards, flags: R and A (0 or 1) of each response, [n].
        prompts: the prompt of each response; equal strings are one prompt.
        seed: decides the bootstrap's resamples.

    Raises:
        ValueError: a reward is not finite, a flag is not 0 or 1, or the lengths differ.
    """
    r, a = _columns(rewards, flags, prompts)
    num_flagged, num_unflagged = int(a.sum()), int((1 - a).sum())
    with_flag = float(r[a == 1].mean()) if num_flagged else None
    without = float(r[a == 0].mean()) if num_unflagged else None
    gap = None
    if with_flag is not None and without is not None:
        columns = np.stack([a * r, a, (1 - a) * r, 1 - a], axis=1)
        totals = np.array([columns[rows].sum(0) for rows in _rows(prompts)])
        drawn = resampled_totals(totals, seed=seed)
        both = drawn[(drawn[:, 1] > 0) & (drawn[:, 3] > 0)]
        low, high = percentile_interval(both[:, 0] / both[:, 1] - both[:, 2] / both[:, 3])
        gap = MeanWithInterval(with_flag - without, float(low), float(high))
    return RewardGap(num_flagged, num_unflagged, with_flag, without, gap)


def prompt_tilt(
    rewards: ArrayLike, flags: ArrayLike, prompts: Sequence[str], *, beta: float, seed: int
) -> PromptTilt:
    """The tilt of Shapira et al. within each prompt; arguments as for `reward_gap`.

    Raises:
        ValueError: as `reward_gap`, or beta is not positive and finite.
    """
    r, a = _columns(rewards, flags, prompts)
    columns = []
    for rows in _rows(prompts):
        flagged, others = r[rows][a[rows] == 1], r[rows][a[rows] == 0]
        if len(flagged) and len(others):
            strength = closed_form_lambda(r[rows].tolist(), a[rows].tolist(), beta)
            columns.append((flagged.mean() - others.mean(), float(strength > 0), strength))
    if not columns:
        return PromptTilt(beta, 0, None, None, None)
    values = np.array(columns)
    low, high = mean_intervals(values, seed=seed)
    numbers = np.stack([values.mean(0), low, high], axis=1).tolist()
    return PromptTilt(beta, len(values), *(MeanWithInterval(*three) for three in numbers))


def _columns(
    rewards: ArrayLike, flags: ArrayLike, prompts: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r, a = np.asarray(rewards, dtype=np.float64), np.asarray(flags, dtype=np.float64)
    if not r.shape == a.shape == (len(prompts),):
        raise ValueError("rewards, flags and prompts must be equally many")
    if not np.isfinite(r).all() or not np.isin(a, (0, 1)).all():
        raise ValueError("rewards must be finite and flags 0 or 1")
    return r, a


def _rows(prompts: Sequence[str]) -> list[list[int]]:
    """Row indices of each prompt."""
    rows: dict[str, list[int]] = {}
    for index, prompt in enumerate(prompts):
        rows.setdefault(prompt, []).append(index)
    return list(rows.values())
