"""Calibration and bound parameters, worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from candor.probes.card import BoundSpec, Calibration
from candor.probes.fitting.calibrate import calibrate as calibrate_for
from candor.probes.fitting.calibrate import fit_bound, lambda_of

CONTEXTS = ["a", "b", "a", "b", "alone"]
REWARDS = np.array([1.0, 10.0, 3.0, 16.0, 500.0], dtype=np.float32)
SCORES = np.array([0.0, 7.0, 4.0, 7.0, -3.0], dtype=np.float32)
NONE = BoundSpec(kind="none")


def calibrate(*args: Any, bound: BoundSpec = NONE, source: str = "") -> Calibration:
    return calibrate_for(*args, bound=bound, source=source)


def test_the_deviations_are_within_context_and_pooled() -> None:
    found = calibrate(REWARDS, SCORES, CONTEXTS, source="by hand")
    # R: a is 1, 3 -> -1, 1; b is 10, 16 -> -3, 3. S: a is 0, 4 -> -2, 2; b is 7, 7 -> 0, 0.
    assert found.std_R == pytest.approx(np.sqrt((1 + 1 + 9 + 9) / 4))
    assert found.std_S == found.std_bounded_S == pytest.approx(np.sqrt((4 + 4) / 4))
    assert (found.num_prompts, found.num_responses) == (2, 4)
    assert found.source == "by hand"


def test_what_differs_between_contexts_only_does_not_count() -> None:
    offset = np.array([0, 900, 0, 900, 0], dtype=np.float32)
    shifted = calibrate(REWARDS + offset, SCORES, CONTEXTS, source="")
    assert shifted.std_R == pytest.approx(calibrate(REWARDS, SCORES, CONTEXTS, source="").std_R)
    assert np.std(REWARDS + offset) > 2 * np.std(REWARDS)  # the control: it is large overall


def test_the_percentiles_are_of_all_scores() -> None:
    scores = np.arange(101, dtype=np.float32)
    found = calibrate(scores, scores, ["a"] * 99 + ["b"] * 2, source="")
    assert found.percentiles == {"p1": 1.0, "p5": 5.0, "p50": 50.0, "p95": 95.0, "p99": 99.0}


@pytest.mark.parametrize(("contexts", "num"), [("abcde", 0), ("aabcd", 1)])
def test_without_two_prompts_of_two_responses_there_is_no_calibration(
    contexts: str, num: int
) -> None:
    with pytest.raises(ValueError, match=f"two responses or more, and {num} have"):
        calibrate(REWARDS, SCORES, list(contexts), source="")


@pytest.mark.parametrize(
    "bound",
    [
        NONE,
        BoundSpec(kind="hinge", reference=3.0),
        BoundSpec(kind="clip", low=-1.0, high=1.0),
        BoundSpec(kind="tanh", reference=0.0, scale=2.0),
    ],
)
def test_kappa_is_the_spread_of_the_penalty_in_spreads_of_the_reward(bound: BoundSpec) -> None:
    found = calibrate(REWARDS, SCORES, CONTEXTS, bound=bound)
    strength = lambda_of(1.5, found)
    penalty = np.array([strength * bound.build()(float(score)) for score in SCORES])
    centred = np.concatenate([penalty[[0, 2]] - penalty[[0, 2]].mean(),
                              penalty[[1, 3]] - penalty[[1, 3]].mean()])  # fmt: skip
    assert centred.std() == pytest.approx(1.5 * found.std_R)
    assert lambda_of(0.0, found) == 0.0
    if bound.kind == "hinge":  # the control: by the spread of S it would be a quarter of that
        assert found.std_S == pytest.approx(4 * found.std_bounded_S)


def test_a_card_from_before_is_read_by_the_definition_of_then() -> None:
    old = calibrate(REWARDS, SCORES, CONTEXTS, bound=BoundSpec(kind="hinge", reference=3.0))
    old = old.model_copy(update={"std_bounded_S": None})
    assert lambda_of(1.5, old) == 1.5 * old.std_R / old.std_S


def test_a_bound_that_no_response_passes_cannot_be_calibrated() -> None:
    with pytest.raises(ValueError, match="the bound hinge has the same value for all responses"):
        calibrate(REWARDS, SCORES, CONTEXTS, bound=BoundSpec(kind="hinge", reference=9.0))


def test_a_score_that_never_varies_cannot_be_calibrated() -> None:
    for never in (np.ones(5, dtype=np.float32), 3 + 1e-7 * SCORES, np.zeros(5)):
        with pytest.raises(ValueError, match="S does not vary"):
            calibrate(REWARDS, never, CONTEXTS, source="")
        with pytest.raises(ValueError, match="R does not vary"):
            calibrate(never, SCORES, CONTEXTS, source="")
    assert calibrate(REWARDS, 3e-4 * SCORES, CONTEXTS, source="").std_S > 0  # small is no rounding


def test_a_bound_needs_scores_that_vary() -> None:
    scores = np.array([1.0] * 200 + [2.0], dtype=np.float32)
    for kind in ("clip", "tanh"):
        with pytest.raises(ValueError, match="S hardly varies"):
            fit_bound(kind, scores, scores)
    assert fit_bound("hinge", scores, scores).reference == 1.0


def test_each_bound_gets_its_documented_parameters() -> None:
    scores = np.arange(101, dtype=np.float32)
    untouched = np.array([2.0, 3.0, 40.0], dtype=np.float32)
    clip, hinge, tanh, none = (
        fit_bound(kind, scores, untouched) for kind in ("clip", "hinge", "tanh", "none")
    )
    assert (clip.low, clip.high) == (1.0, 99.0)
    assert hinge.reference == 21.5
    assert (tanh.reference, tanh.scale) == (3.0, 49.0)
    assert none.model_dump(exclude_none=True) == {"kind": "none"}
