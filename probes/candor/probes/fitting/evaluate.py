"""How good a probe is, and the controls that show what the number is worth.

Scores are S (or any other ordered numbers), labels 0 or 1. AUROC says how often S ranks a label-1
response above a label-0 response anywhere in the data; a probe that tells prompts apart can reach
it. The within-prompt AUROC says how often it does so among the responses to one prompt, and that is
how S is used: best-of-N and GRPO compare nothing else. Intervals resample split groups. The two
controls are the scores of a probe without information.
`candor.probes.fitting.reliability` says whether S is also a probability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from candor.probes.fitting.fit import Ints, Method, fit
from candor.probes.statistics.intervals import Interval, bca_interval

MIN_MIXED_PROMPTS = 5
"""With fewer prompts that have both labels, a within-prompt AUROC decides nothing: `ranking`."""


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Probability that a random label-1 score is above a random label-0 score; ties count half.

    scikit-learn's `roc_auc_score` gives the same number (tested, with ties) but takes some fifty
    times as long, and an interval computes it a thousand times.

    Raises:
        ValueError: a label is missing, or a score is not finite (it has no rank).
    """
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    ones = int((y == 1).sum())
    zeros = len(y) - ones
    if ones == 0 or zeros == 0:
        raise ValueError(f"AUROC needs both labels, got {ones} ones and {zeros} zeros")
    if not np.isfinite(s).all():
        raise ValueError("AUROC needs finite scores")
    _, inverse, counts = np.unique(s, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2  # equal scores share the mean of their ranks
    rank_sum = float(mean_ranks[inverse][y == 1].sum())
    return (rank_sum - ones * (ones + 1) / 2) / (ones * zeros)


def auroc_interval(
    scores: ArrayLike,
    labels: ArrayLike,
    groups: Sequence[str],
    *,
    seed: int,
    num_resamples: int = 1000,
) -> Interval | None:
    """95 % interval of the AUROC by BCa bootstrap over GROUPS: rows of one group are not
    independent.

    A resample that lacks a label is left out. With few groups the interval is rough.

    Returns:
        None where a label is missing, and with one group, which says nothing.
    """
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    members = list(_members(groups).values())

    def measure(drawn: Ints) -> float | None:
        rows = np.concatenate([members[index] for index in drawn])
        return auroc(s[rows], y[rows]) if 0 < y[rows].sum() < len(rows) else None

    return bca_interval(measure, len(members), seed=seed, num_resamples=num_resamples)


def within_prompt_auroc(
    scores: ArrayLike, labels: ArrayLike, contexts: Sequence[str]
) -> float | None:
    """AUROC among the responses to one prompt: the share of (label 1, label 0) pairs of responses
    to the same prompt that label 1 wins by its score; ties count half.

    Every pair weighs the same, whatever its prompt. None if no prompt has both labels.

    Args:
        contexts: the context of each row; rows with equal strings are responses to one prompt.
    """
    found = _pairs(scores, labels, contexts)
    pairs = sum(total for _, total in found.values())
    return sum(won for won, _ in found.values()) / pairs if pairs else None


def within_prompt_interval(
    scores: ArrayLike,
    labels: ArrayLike,
    contexts: Sequence[str],
    groups: Sequence[str],
    *,
    seed: int,
    num_resamples: int = 1000,
) -> Interval | None:
    """95 % interval of the within-prompt AUROC, by BCa bootstrap over GROUPS; None if there is no
    pair, or one group.

    Args:
        groups: of each row. The prompts of one group, such as one poem's, are not independent.
    """
    by_prompt = _pairs(scores, labels, contexts)
    owner = dict(zip(contexts, groups, strict=True))
    totals = {group: np.zeros(2) for group in groups}
    for context, both in by_prompt.items():
        totals[owner[context]] += both
    won, pairs = np.array(list(totals.values())).reshape(-1, 2).T

    def measure(drawn: Ints) -> float | None:
        total = pairs[drawn].sum()
        return float(won[drawn].sum() / total) if total else None

    return bca_interval(measure, len(pairs), seed=seed, num_resamples=num_resamples)


def num_mixed_prompts(labels: ArrayLike, contexts: Sequence[str]) -> int:
    """The number of prompts whose responses have both labels."""
    y = np.asarray(labels)
    mixed = (0 < y[rows].sum() < len(rows) for rows in _members(contexts).values())
    return sum(map(bool, mixed))


def ranking(scores: ArrayLike, labels: ArrayLike, contexts: Sequence[str]) -> float:
    """The figure by which probes are chosen: the within-prompt AUROC, or the AUROC where fewer than
    `MIN_MIXED_PROMPTS` prompts have both labels.

    Which of the two it is depends on labels and contexts alone, so it is the same for all probes
    that are compared on the same rows.

    Raises:
        ValueError: a label is missing.
    """
    within = within_prompt_auroc(scores, labels, contexts)
    if within is None or num_mixed_prompts(labels, contexts) < MIN_MIXED_PROMPTS:
        return auroc(scores, labels)
    return within


def tpr_at_fpr(scores: ArrayLike, labels: ArrayLike, fpr: float) -> float:
    """True-positive rate at a false-positive rate: the share of label-1 scores above the lowest
    threshold that at most a share `fpr` of the label-0 scores exceeds.

    With fewer than 1 / fpr label-0 rows the threshold is the highest label-0 score, and the result
    depends on that one row.

    Raises:
        ValueError: a label is missing.
    """
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    ones, zeros = s[y == 1], np.sort(s[y == 0])
    if not len(ones) or not len(zeros):
        raise ValueError(f"needs both labels, got {len(ones)} ones and {len(zeros)} zeros")
    allowed = math.floor(fpr * len(zeros) + 1e-9)  # 0.01 * 300 is below 3 in floating point
    threshold = zeros[-1 - allowed] if allowed < len(zeros) else -math.inf
    return float((ones > threshold).mean())


def threshold_at_tpr(scores_of_ones: ArrayLike, tpr: float) -> float:
    """The highest threshold that at least a share `tpr` of these label-1 scores reaches.

    Raises:
        ValueError: there is no score, or `tpr` is outside (0, 1].
    """
    s = np.sort(np.asarray(scores_of_ones, dtype=np.float64))[::-1]
    if not len(s) or not 0 < tpr <= 1:
        raise ValueError(f"needs label-1 scores and a share in (0, 1], got {len(s)} and {tpr}")
    return float(s[math.ceil(tpr * len(s) - 1e-9) - 1])


def rate_above(scores: ArrayLike, threshold: float) -> float:
    """Share of scores that reach `threshold`: of label-1 scores the true-positive rate, of label-0
    scores the false-positive rate.

    Raises:
        ValueError: there is no score.
    """
    s = np.asarray(scores, dtype=np.float64)
    if not len(s):
        raise ValueError("there are no scores, so there is no rate")
    return float((s >= threshold).mean())


def shuffled_label_aurocs(
    x_train: NDArray[np.float32],
    y_train: Ints,
    x_validation: NDArray[np.float32],
    y_validation: Ints,
    *,
    method: Method = "logistic",
    C: float | None,
    seed: int,
    permutations: int = 10,
) -> list[float]:
    """Control: validation AUROCs of the same fit on permuted training labels. They should be about
    0.5.

    Only the training part is permuted. A mean far from 0.5 means that the validation score can be
    reached without the labels. The spread shows how far chance alone gets on a validation part of
    this size.
    """
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(permutations):
        weight, bias = fit(method, x_train, rng.permutation(y_train), C=C, seed=seed)
        values.append(auroc(x_validation @ weight + bias, y_validation))
    return values


def length_sign(lengths_train: ArrayLike, labels_train: ArrayLike) -> int:
    """+1 if longer responses are more often label 1 in the training part, else -1.

    The second control is `auroc(sign * lengths, labels)` on another part, with this sign: a probe
    that is not clearly better may have learnt length.
    """
    return 1 if auroc(lengths_train, labels_train) >= 0.5 else -1


def summarise(
    scores: ArrayLike,
    labels: ArrayLike,
    contexts: Sequence[str],
    groups: Sequence[str],
    *,
    seed: int,
) -> dict[str, float | int | None]:
    """The numbers that a card states for one part of the data, or for one kind in it.

    If all rows have the same label there is nothing to rank: all but the counts are None.
    """
    names = ("auroc", "auroc_low", "auroc_high", "within_prompt_auroc", "within_prompt_auroc_low",
             "within_prompt_auroc_high", "tpr_at_1_fpr")  # fmt: skip
    measured: dict[str, float | int | None] = dict.fromkeys(names)
    nothing = (None, None)
    if len(np.unique(np.asarray(labels))) == 2:
        ranks = auroc_interval(scores, labels, groups, seed=seed) or nothing
        within = within_prompt_interval(scores, labels, contexts, groups, seed=seed) or nothing
        values = (auroc(scores, labels), *ranks, within_prompt_auroc(scores, labels, contexts),
                  *within, tpr_at_fpr(scores, labels, 0.01))  # fmt: skip
        measured = dict(zip(names, values, strict=True))
    return measured | {
        "num_rows": len(groups),
        "num_groups": len(set(groups)),
        "num_mixed_prompts": num_mixed_prompts(labels, contexts),
    }


def _pairs(
    scores: ArrayLike, labels: ArrayLike, contexts: Sequence[str]
) -> dict[str, tuple[float, int]]:
    """For each prompt, pairs that label 1 wins (a tie counts half), and all pairs."""
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    found = {}
    for context, rows in _members(contexts).items():
        difference = s[rows][y[rows] == 1][:, None] - s[rows][y[rows] == 0][None, :]
        won = float((difference > 0).sum() + 0.5 * (difference == 0).sum())
        found[context] = won, difference.size
    return found


def _members(names: Sequence[str]) -> dict[str, Ints]:
    """Row indices of each name, names in order of first appearance."""
    rows: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        rows.setdefault(name, []).append(index)
    return {name: np.asarray(indices, dtype=np.int64) for name, indices in rows.items()}
