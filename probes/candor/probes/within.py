"""S against a judge, within prompts: the AUROC, its interval, and a test for a fall that may be
looked at after every prompt.

Best-of-N and GRPO compare responses to one prompt, so a probe is worth its AUROC among the
responses to one prompt. The unit is a prompt that has judged responses of both labels; its AUROC is
one number in [0, 1], and a window's is the mean over its prompts.

The test bets against "the mean is still at least `level`": the stake grows where a prompt's AUROC
is below the level and shrinks where it is above, and on average it cannot grow while the
supposition holds. So over a run of any length it exceeds 1 / alpha with probability alpha at most
(Ville's inequality; Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
betting", JRSS B 2024). A stake that was laid at the start shrinks as long as all is well and would
notice a later fall late. So a new stake is laid with every window, the k-th of 1 / (k (k + 1)) of
the whole: their sum starts at 1 at most and the guarantee is the same. The guarantee is for
prompts in random order: then no prompt tells the next one's AUROC.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

BETS: Final = np.array([0.1, 0.2, 0.4, 0.6, 0.8, 0.95])
"""Shares of the largest bet that cannot lose more than the stake; the stake is divided evenly. A
small bet notices a small fall after many prompts, a large one a large fall after few."""


def prompt_auroc(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """The share of (label 1, label 0) pairs of one prompt that label 1 wins by its score; ties
    count half. None if a label is missing."""
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    difference = s[y == 1][:, None] - s[y == 0][None, :]
    if not difference.size:
        return None
    return float(((difference > 0).sum() + 0.5 * (difference == 0).sum()) / difference.size)


def lower_bound(aurocs: Sequence[float], alpha: float) -> float:
    """A bound that the mean is below with probability `alpha` at most; 0 if nothing is known.

    It is exact for numbers in [0, 1] of any distribution, because it inverts the test: the largest
    level that betting on "above" refutes at the end of the window.
    """
    values = np.asarray(aurocs, dtype=np.float64)
    low, high = 0.0, 1.0
    if not len(values):
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        if _wealth_above(values, middle) >= 1 / alpha:
            low = middle
        else:
            high = middle
    return low


def _wealth_above(values: np.ndarray, level: float) -> float:
    """What bets on "the mean is above `level`" have grown to, from 1."""
    stakes = BETS / max(level, 1e-9)
    with np.errstate(over="ignore"):
        grown = np.log1p(stakes[:, None] * (values - level)[None, :]).sum(axis=1)
    return float(np.exp(np.clip(grown, -700, 700)).mean())


def interval(aurocs: Sequence[float]) -> tuple[float, float] | None:
    """95 % t-interval of the mean over prompts, cut to [0, 1]; None for fewer than two prompts."""
    n = len(aurocs)
    if n < 2:
        return None
    mean, error = float(np.mean(aurocs)), float(np.std(aurocs, ddof=1)) / math.sqrt(n)
    reach = _t975(n - 1) * error
    return max(0.0, mean - reach), min(1.0, mean + reach)


def _t975(freedom: int) -> float:
    """The 97.5 % point of Student's t: Cornish-Fisher's expansion, within 0.1 % from 4 degrees of
    freedom on. (scipy is not in the server's installation.)"""
    exact = {1: 12.7062, 2: 4.30265, 3: 3.18245}
    if freedom in exact:
        return exact[freedom]
    z, v = 1.959964, float(freedom)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / v**power for power, term in enumerate(terms))


@dataclass(slots=True)
class FallTest:
    """Watches a stream of prompts' AUROCs for a fall below a level.

    Args:
        level: the supposition is that the mean never falls below it. In (0, 1).
        window: prompts between one stake and the next.
    """

    level: float
    window: int
    _log: np.ndarray = field(init=False)
    _num: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ValueError(f"a level is between 0 and 1, got {self.level}")
        self._log = np.empty((0, len(BETS)))

    def add(self, auroc: float) -> float:
        """One more prompt; returns the evidence: what all stakes together have grown to."""
        if self._num % self.window == 0:
            k = len(self._log) + 1
            new = np.full((1, len(BETS)), -math.log(k * (k + 1) * len(BETS)))
            self._log = np.concatenate([self._log, new])
        self._num += 1
        self._log += np.log1p(BETS / (1 - self.level) * (self.level - auroc))
        return float(np.exp(np.minimum(self._log, 600)).sum())
