"""What is said against a card, and that nothing is said against a good one."""

from __future__ import annotations

from typing import Any

import pytest

from candor.probes.artifact import load
from candor.probes.card import BoundSpec, Card
from candor.scoring.caveats import caveats, within_prompt_auroc
from tests.paths import ROOT
from tests.probes.made import a_card

HINGE = BoundSpec(kind="hinge", reference=0.0)


def card(value: Any, **changes: Any) -> Card:
    return a_card(metrics={"test": {"within_prompt_auroc": value}}, **({"bound": HINGE} | changes))


def types(*args: Any, **kwargs: Any) -> list[str]:
    return [caveat.type for caveat in caveats(*args, **kwargs)]


def test_a_good_card_has_none() -> None:
    assert types(card(0.65)) == []


def test_a_low_ranking_is_said_with_its_number_and_what_to_do() -> None:
    (caveat,) = caveats(card(0.6499))
    assert caveat.type == "within_prompt_auroc_low"
    assert "0.650" in caveat.message
    assert "candor data feedback" in caveat.message
    assert types(card(0.6499), monitor=True) == ["within_prompt_auroc_low"]


@pytest.mark.parametrize("metrics", [{}, {"test": {"auroc": 0.99}}, {"test": None}])
def test_a_card_without_the_figure_is_not_taken_for_a_good_one(metrics: dict[str, Any]) -> None:
    found = a_card(metrics=metrics, bound=HINGE)
    assert within_prompt_auroc(found) is None
    assert types(found) == ["within_prompt_auroc_unknown"]


def test_the_bound_and_the_old_kappa_concern_the_penalty_alone() -> None:
    old = a_card().calibration.model_copy(update={"std_bounded_S": None})
    clipped = card(0.9, calibration=old, bound=BoundSpec(kind="clip", low=-1.0, high=1.0))
    assert types(clipped) == ["bound_can_raise_reward", "kappa_of_unbounded_score"]
    assert types(clipped, monitor=True) == []


def test_the_shipped_probe_still_loads() -> None:
    assert (
        load(ROOT / "demo" / "artefacts" / "lora" / "probes" / "sycophancy").card.name
        == "sycophancy"
    )
