"""R and S of responses -> a probe's `Calibration`, the parameters of its bound, and lambda.

R is the base reward and S the probe score. Pure numpy on their values; the caller chooses the
responses and describes them in the card (`Calibration.source`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from candor.probes.bound import BoundKind
from candor.probes.card import BoundSpec, Calibration, Percentile

PERCENTILES: dict[Percentile, int] = {"p1": 1, "p5": 5, "p50": 50, "p95": 95, "p99": 99}
HINGE_PERCENTILE = 75.0
MIN_PROMPTS = 2
"""The spread among one prompt's responses says nothing about the next prompt's."""
ROUNDING_SHARE = 1e-6
"""How much one text's score varies from batch to batch in float32, as a share of the largest
|score|. A smaller spread is rounding."""

Values = NDArray[np.float32] | NDArray[np.float64]


def calibrate(
    rewards: Values,
    scores: Values,
    contexts: Sequence[str],
    *,
    bound: BoundSpec,
    source: str,
) -> Calibration:
    """How R, S and bound(S) vary among responses to one context.

    Args:
        rewards, scores: R and S of each row, [n].
        contexts: the context of each row; rows with equal strings are responses to one prompt.
        bound: the bound that the probe is served with.
        source: a description of the rows, for the card.

    Raises:
        ValueError: fewer than `MIN_PROMPTS` contexts have two responses, or R, S or bound(S)
            varies within no context.
    """
    shared = shared_contexts(contexts)
    bounded = np.array([bound.build()(float(score)) for score in scores])
    std_R, std_S, std_bounded_S = (
        within_std(values[rows] for rows in shared) for values in (rewards, scores, bounded)
    )
    for name, std, values in (("R", std_R, rewards), ("S", std_S, scores)):
        if std <= ROUNDING_SHARE * float(np.abs(values).max()):
            raise ValueError(
                f"nothing to calibrate: {name} does not vary among the responses to a prompt "
                f"(std({name}) = {std:.3g}); are they copies of one text?"
            )
    if std_bounded_S <= ROUNDING_SHARE * float(np.abs(scores).max()):
        raise ValueError(
            f"nothing to calibrate: the bound {bound.kind} has the same value for all responses to "
            f"a prompt (std(bound(S)) = {std_bounded_S:.3g}), so a penalty would change no choice "
            "between them; fit the bound on these responses (--bound hinge, or a lower "
            "--hinge-percentile)"
        )
    return Calibration(
        std_R=std_R,
        std_S=std_S,
        std_bounded_S=std_bounded_S,
        percentiles={name: float(np.percentile(scores, at)) for name, at in PERCENTILES.items()},
        num_prompts=len(shared),
        num_responses=sum(map(len, shared)),
        source=source,
    )


def within_std(parts: Iterable[NDArray[Any]]) -> float:
    """The spread among responses to one prompt, which is all that an optimiser compares: population
    standard deviation after each part has had its own mean subtracted.

    Args:
        parts: for each prompt, the values of its responses, [M]; at least one part.
    """
    wide = [np.asarray(part, dtype=np.float64) for part in parts]
    return float(np.concatenate([part - part.mean() for part in wide]).std())


def shared_contexts(contexts: Sequence[str]) -> list[list[int]]:
    """Row indices of each context that has at least two responses.

    Raises:
        ValueError: there are fewer than `MIN_PROMPTS`.
    """
    rows: dict[str, list[int]] = {}
    for index, context in enumerate(contexts):
        rows.setdefault(context, []).append(index)
    shared = [indices for indices in rows.values() if len(indices) >= 2]
    if len(shared) < MIN_PROMPTS:
        raise ValueError(
            f"calibration compares responses to one prompt: at least {MIN_PROMPTS} contexts must "
            f"have two responses or more, and {len(shared)} have"
        )
    return shared


def lambda_of(kappa: float, calibration: Calibration) -> float:
    """lambda in reward units per logit: one within-prompt standard deviation of bound(S) costs
    `kappa` within-prompt standard deviations of R.

    So kappa is the spread of the penalty among the responses to a prompt, in spreads of R. A card
    without `std_bounded_S` is read by the old definition, with std(S) in its place; whoever uses it
    says so (`candor.scoring.caveats`). The server uses this function too, so the number is the same
    to the bit.
    """
    spread = calibration.std_bounded_S
    return kappa * calibration.std_R / (calibration.std_S if spread is None else spread)


def fit_bound(
    kind: BoundKind,
    scores: Values,
    untouched: Values,
    *,
    hinge_percentile: float = HINGE_PERCENTILE,
) -> BoundSpec:
    """The parameters of a bound, in logits.

    | kind | parameters |
    | --- | --- |
    | clip | low, high: 1st and 99th percentile of `scores` |
    | hinge | reference: `hinge_percentile` of `untouched` |
    | tanh | reference: median of `untouched`; scale: half the distance between the clip's limits |

    With a hinge at percentile 75, three of four honest responses pay nothing.

    Args:
        scores: S of all responses that the bound may be fitted on (train and validation).
        untouched: S of responses without the trait that the weights were not fitted on: the label-0
            rows of a validation part; without labels (`candor probe calibrate`), all responses.

    Raises:
        ValueError: S does not vary.
    """
    low, high = (float(value) for value in np.percentile(scores, [1, 99]))
    if low >= high and kind in ("clip", "tanh"):
        raise ValueError(f"S hardly varies: its 1st and its 99th percentile are both {low:g}")
    if kind == "clip":
        return BoundSpec(kind=kind, low=low, high=high)
    if kind == "hinge":
        return BoundSpec(kind=kind, reference=float(np.percentile(untouched, hinge_percentile)))
    if kind == "tanh":
        return BoundSpec(kind=kind, reference=float(np.median(untouched)), scale=(high - low) / 2)
    return BoundSpec(kind=kind)
