"""How far a reward favours flagged responses: the figures of `candor audit tilt`.

The theory, and lambda*(x) of one prompt, are in `candor.probes.tilt`. Numbers only: the caller
decides which responses are flagged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from candor.probes.statistics.intervals import Units, bca_interval, t_intervals
from candor.probes.tilt import closed_form_lambda


@dataclass(frozen=True, slots=True)
class MeanWithInterval:
    """A mean and its 95 % interval over prompts; None where there is one prompt."""

    mean: float
    low: float | None
    high: float | None


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
    """The gap over all responses, with its BCa interval over prompts, which keeps a prompt's
    responses together.

    Resamples without a flagged or without an unflagged response are left out of the interval.

    Args:
        rewards, flags: R and A (0 or 1) of each response, [n].
        prompts: the prompt of each response; equal strings are one prompt.
        seed: decides the resamples of the interval.

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

        def measure(drawn: Units) -> float | None:
            flagged, num, others, rest = totals[drawn].sum(axis=0)
            return float(flagged / num - others / rest) if num and rest else None

        sides = bca_interval(measure, len(totals), seed=seed) or (None, None)
        gap = MeanWithInterval(with_flag - without, *sides)
    return RewardGap(num_flagged, num_unflagged, with_flag, without, gap)


def prompt_tilt(
    rewards: ArrayLike, flags: ArrayLike, prompts: Sequence[str], *, beta: float
) -> PromptTilt:
    """The tilt of Shapira et al. within each prompt, with t intervals over prompts.

    The arguments are those of `reward_gap`.

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
    found = [
        MeanWithInterval(mean, *(None if math.isnan(side) else side for side in sides))
        for mean, *sides in np.stack([values.mean(0), *t_intervals(values)], axis=1).tolist()
    ]
    return PromptTilt(beta, len(values), *found)


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
