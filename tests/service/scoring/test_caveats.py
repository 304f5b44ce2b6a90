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


MEASURED: dict[str, Any] = {
    "test": {
        "auroc": 0.9,
        "auroc_low": 0.85,
        "within_prompt_auroc": 0.8,
        "within_prompt_auroc_low": 0.7,
        "length_auroc": 0.6,
        "length_within_prompt_auroc": 0.55,
    },
    "words": {"auroc": 0.7, "within_prompt_auroc": 0.6},
    "shuffled_labels": {"mean_auroc": 0.5},
}


@pytest.mark.parametrize(
    ("part", "name", "value", "who"),
    [
        ("test", "length_within_prompt_auroc", 0.7, "the response's length 0.700 (within prompts)"),
        ("test", "length_auroc", 0.86, "the response's length 0.860 (over all prompts)"),
        ("words", "within_prompt_auroc", 0.71, "a bag of words 0.710 (within prompts)"),
        ("words", "auroc", 0.95, "a bag of words 0.950 (over all prompts)"),
        ("shuffled_labels", "mean_auroc", 0.87, "fits on shuffled labels 0.870 (over all prompts)"),
    ],
)
def test_a_probe_that_is_no_better_than_a_control_is_said_to_be(
    part: str, name: str, value: float, who: str
) -> None:
    assert types(a_card(metrics=MEASURED, bound=HINGE)) == []  # the control
    just_below = {**MEASURED, part: {**MEASURED[part], name: 0.69}}
    assert types(a_card(metrics=just_below, bound=HINGE)) == []
    (caveat,) = caveats(
        a_card(metrics={**MEASURED, part: {**MEASURED[part], name: value}}, bound=HINGE)
    )
    assert caveat.type == "no_better_than_controls"
    assert f"at or below that of {who}. " in caveat.message


def test_without_an_interval_the_aurocs_themselves_are_compared() -> None:
    bare = {name: MEASURED["test"][name] for name in ("auroc", "within_prompt_auroc")}
    card_of = {"test": bare, "words": {"within_prompt_auroc": 0.79}}
    assert types(a_card(metrics=card_of, bound=HINGE)) == []
    card_of["words"] = {"within_prompt_auroc": 0.8}
    assert types(a_card(metrics=card_of, bound=HINGE)) == ["no_better_than_controls"]


def test_the_demo_probe_is_better_than_its_controls() -> None:
    shipped = load(ROOT / "demo" / "artefacts" / "lora" / "probes" / "sycophancy").card
    assert "no_better_than_controls" not in types(shipped)
