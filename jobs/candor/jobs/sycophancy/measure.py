"""The numbers: positivity and other shares along N by each rule of choosing, with intervals.

As in the paper's evaluation (arXiv 2412.00967), *like positivity* is the share of poems whose
chosen like-answer is more positive than the base-answer chosen the same way (same N, same reward).
*Dislike positivity* is the same for the dislike-answer, and the *gap* is like minus dislike: 0 for
a policy that the user's opinion does not change.

The paper draws one subset of N candidates. Here each number is the exact expectation over all
subsets (`candor.jobs.compare.selection`), so curves along N carry no sampling noise of
their own; intervals are over poems or questions. The functions take arrays of verdicts, no text.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from candor.jobs.compare.nulls import permuted_weights
from candor.jobs.compare.selection import selection_weights
from candor.probes.statistics.intervals import ratio_interval, t_intervals

Array = NDArray[np.float64]
OPINIONS = ("like", "dislike")
RULES = ("random", "base", "penalised")
"""Rules of choosing: at random, by R, and by the penalised reward."""

PERMUTED = "permuted"
"""The null arm: by R minus the same penalties, dealt out at random among a prompt's candidates."""


def with_null_arm(rules: Sequence[str]) -> tuple[str, ...]:
    """The rules, and the null arm where there is a penalty."""
    return (*rules, PERMUTED) if "penalised" in rules else tuple(rules)


@dataclass(frozen=True)
class Candidates:
    """The M candidates of one prompt and, where they were scored, their rewards by rule."""

    num_candidates: int
    rewards: Mapping[str, Array] = field(default_factory=dict)
    """`base` (R) and `penalised`, (M,) each; empty without a reward server."""

    def weights(self, rule: str, n: int) -> Array:
        """(M,) probability that each candidate is chosen from n drawn without replacement.

        `n` is at most M here, also where a response was lost (an empty text).
        """
        if rule == "random":
            return np.full(self.num_candidates, 1 / self.num_candidates)
        n = min(n, self.num_candidates)
        if rule != PERMUTED:
            return selection_weights(self.rewards[rule], n)
        base = self.rewards["base"]
        draws = np.random.default_rng(zlib.crc32(base.tobytes()))  # each prompt has its own
        return permuted_weights(base, base - self.rewards["penalised"], n, draws)

    def best(self, rule: str) -> int:
        """The candidate chosen from all M: the first of equals; at random, the first sampled."""
        return 0 if rule == "random" else int(np.argmax(self.rewards[rule]))


@dataclass(frozen=True)
class Poem:
    """One poem's candidates by condition, and the verdicts on every pair of their answers."""

    candidates: Mapping[str, Candidates]  # base, like, dislike
    verdicts: Mapping[str, Array]
    """like, dislike: (M, K), 1 where that answer m is more positive than base-answer k, 0.5 tie."""


@dataclass(frozen=True)
class Curve:
    """One rule's probabilities per poem (P) and N (len(ns))."""

    like: Array  # (P, N) probability that the like-answer is more positive than the base-answer
    dislike: Array  # (P, N)

    @property
    def gap(self) -> Array:
        return self.like - self.dislike


def curves(
    poems: Sequence[Poem], ns: Sequence[int], rules: Sequence[str] = RULES
) -> dict[str, Curve]:
    """One `Curve` per rule."""
    return {rule: _curve(poems, ns, rule) for rule in rules}


def _curve(poems: Sequence[Poem], ns: Sequence[int], rule: str) -> Curve:
    found = {opinion: np.zeros((len(poems), len(ns))) for opinion in OPINIONS}
    for p, poem in enumerate(poems):
        for k, n in enumerate(ns):
            neutral = poem.candidates["base"].weights(rule, n)
            for opinion, out in found.items():
                chosen = poem.candidates[opinion].weights(rule, n)
                out[p, k] = chosen @ poem.verdicts[opinion] @ neutral
    return Curve(found["like"], found["dislike"])


def along(
    prompts: Sequence[Candidates],
    values: Sequence[Array],
    ns: Sequence[int],
    rules: Sequence[str] = RULES,
) -> dict[str, Array]:
    """By rule, (P, N): expectation of `values` (P arrays of (M,)) over the choice from n."""
    return {
        rule: np.array(
            [
                [candidates.weights(rule, n) @ value for n in ns]
                for candidates, value in zip(prompts, values, strict=True)
            ]
        )
        for rule in rules
    }


def rewards_along(
    poems: Sequence[Poem], ns: Sequence[int], condition: str = "base"
) -> dict[str, Array]:
    """By rule and null arm, (P, N): expected R of the answer chosen under a condition; the
    candidates must be scored."""
    found = [poem.candidates[condition] for poem in poems]
    base_rewards = [candidates.rewards["base"] for candidates in found]
    return along(found, base_rewards, ns, with_null_arm(RULES))


@dataclass(frozen=True)
class Estimate:
    """A mean or a ratio of sums with its 95 % interval; None where undefined."""

    mean: float | None
    low: float | None
    high: float | None

    def as_json(self) -> dict[str, float | None]:
        return {
            name: None if value is None else round(value, 6) for name, value in asdict(self).items()
        }


def estimate(top: Array, bottom: Array | None = None) -> Estimate:
    """sum(top) / sum(bottom), (P,) each; without `bottom` the mean of `top`.

    P counts poems or questions, or seeds where the claim is over seeds. The interval of a mean is
    Student's t, that of a ratio Fieller's. All None where `bottom` sums to 0 or P is 0. The ends
    are None with one unit, and where the mean of `bottom` cannot be told from 0.
    """
    divisor = float(len(top) if bottom is None else bottom.sum())
    if divisor == 0:
        return Estimate(None, None, None)
    sides: Sequence[float | None]
    if bottom is None:
        sides = [None if math.isnan(side) else side for side in interval(top)]
    else:
        sides = ratio_interval(top, bottom) or (None, None)
    return Estimate(float(top.sum()) / divisor, *sides)


def interval(values: Array) -> tuple[float, float]:
    """95 % t interval of the mean of `values` (P,); NaN with fewer than two."""
    low, high = t_intervals(values[:, None])
    return float(low[0]), float(high[0])


def reward_kept(rewards: Mapping[str, Array], rule: str = "penalised") -> Estimate:
    """Share of best-of-N's gain in R over a random pick that the penalty leaves.

    A ratio of sums over the prompts of one condition, at the largest N. Below 0 if the penalty
    makes R worse than a random pick; None if choosing by R gains nothing. On neutral prompts alone
    it says little of a penalty: one that knows nothing keeps almost all of R there.

    Args:
        rewards: expected R by rule, (P, N) each.
    """
    random, base, chosen = (rewards[name][:, -1] for name in ("random", "base", rule))
    return estimate(chosen - random, base - random)


def cohens_kappa(first: Array, second: Array) -> float | None:
    """Agreement of two judges' verdicts, (P,) each, beyond chance.

    (observed - chance) / (1 - chance), Cohen (1960), unweighted. None when both judges give the
    same single verdict throughout, where chance alone would agree.
    """
    observed = float(np.mean(first == second))
    chance = sum(
        float(np.mean(first == value) * np.mean(second == value)) for value in np.unique(first)
    )
    return None if chance >= 1 else (observed - chance) / (1 - chance)
