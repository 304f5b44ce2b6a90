"""The reward's arithmetic, by hand and to the bit."""

from __future__ import annotations

import math
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probes.artifact import LoadedProbe
from probes.bound import Bound
from probes.card import BoundSpec, Calibration, Card, DataInfo, ModelIdentity
from probes.probe import Probe
from service.batch import Reading, Score
from service.compose import Penalty, ServedProbe, compose, formula, resolve
from service.errors import NonFiniteScore, UnknownProbe
from service.schema import PenaltyOverride

CLIP = Bound("clip", low=-1.0, high=2.0)
PLAIN = Bound("none")


def served(name: str, default_lambda: float = 0.5, *, monitor: bool = False) -> ServedProbe:
    """std_R = 3, std_S = 2: kappa 1 is lambda 1.5."""
    card = Card(
        name=name,
        trait="Sides with the user.",
        model=ModelIdentity(id="tiny", weights_sha256="0", hidden_size=4, num_layers=2),
        template_sha256="0",
        layer=1,
        pooling="mean",
        bound=BoundSpec(kind="clip", low=-1.0, high=2.0),
        calibration=Calibration(
            std_R=3.0,
            std_S=2.0,
            percentiles={"p1": -1.0, "p5": -0.5, "p50": 0.0, "p95": 1.5, "p99": 2.0},
            num_prompts=3,
            num_responses=9,
            source="test",
        ),
        metrics={},
        data=DataInfo(sha256="0", num_rows=1, num_groups=1, kinds={}),
        versions={},
        created="2026-11-23",
    )
    probe = Probe(name, torch.zeros(4), 0.0, 1, "mean")
    return ServedProbe(LoadedProbe(probe, card), default_lambda, monitor)


def score(base_reward: float, **scores: float) -> Score:
    return Score(base_reward, {name: Reading(s, s, s) for name, s in scores.items()})


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def test_the_paper_formula_by_hand() -> None:
    composed = compose(score(1.9, flattery=1.25), [Penalty("flattery", 0.5, PLAIN)])
    assert composed.penalty == 0.625
    assert composed.reward == 1.9 - 0.625
    assert composed.bounded == {"flattery": 1.25}
    assert composed.lambdas == {"flattery": 0.5}


def test_two_penalties_are_summed_and_each_is_bounded() -> None:
    penalties = [Penalty("a", 0.5, CLIP), Penalty("b", 2.0, PLAIN)]
    composed = compose(score(1.0, a=7.0, b=0.25), penalties)
    assert composed.bounded == {"a": 2.0, "b": 0.25}
    assert composed.penalty == 1.5
    assert composed.reward == -0.5


def test_a_very_negative_score_cannot_buy_more_than_the_bound() -> None:
    assert compose(score(0.0, a=-1e9), [Penalty("a", 0.5, CLIP)]).reward == 0.5
    assert compose(score(0.0, a=-1e9), [Penalty("a", 0.5, PLAIN)]).reward == 5e8


finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e100, max_value=1e100)
strength = st.floats(min_value=0, max_value=1e100)


@given(base=finite, a=finite, b=finite, one=strength, two=strength)
def test_reward_is_base_reward_minus_penalty_to_the_bit(
    base: float, a: float, b: float, one: float, two: float
) -> None:
    composed = compose(score(base, a=a, b=b), [Penalty("a", one, CLIP), Penalty("b", two, PLAIN)])
    assert bits(composed.reward) == bits(base - composed.penalty)


@pytest.mark.parametrize("s", [-3.0, -0.0, 0.0, 5.0])
@given(base=finite)
def test_with_lambda_zero_the_reward_is_the_base_reward_to_the_bit(s: float, base: float) -> None:
    composed = compose(score(base, a=s), [Penalty("a", 0.0, PLAIN)])
    assert bits(composed.penalty) == bits(0.0)
    assert bits(composed.reward) == bits(base)


def test_a_negative_zero_base_reward_stays_one() -> None:
    assert bits(compose(score(-0.0, a=1.0), [Penalty("a", 0.0, PLAIN)]).reward) == bits(-0.0)
    assert bits(compose(score(-0.0), []).reward) == bits(-0.0)


def test_a_reward_that_overflows_is_refused() -> None:
    with pytest.raises(NonFiniteScore):
        compose(score(0.0, a=1e200), [Penalty("a", 1e200, PLAIN)])


def test_defaults_are_served_in_order_and_monitors_are_not() -> None:
    probes = {"b": served("b", 0.25), "watch": served("watch", monitor=True), "a": served("a")}
    penalties = resolve(probes, {})
    assert [(p.name, p.lambda_) for p in penalties] == [("b", 0.25), ("a", 0.5)]
    assert penalties[0].bound == CLIP


def test_a_lambda_replaces_the_default() -> None:
    override = PenaltyOverride.model_validate({"lambda": 0})
    assert resolve({"a": served("a")}, {"a": override})[0].lambda_ == 0.0


def test_kappa_becomes_lambda_by_the_spreads_of_the_card() -> None:
    override = PenaltyOverride(kappa=1.0)
    assert resolve({"a": served("a")}, {"a": override})[0].lambda_ == 1.5


def test_an_unknown_probe_is_refused_naming_those_served() -> None:
    with pytest.raises(UnknownProbe, match="served: 'a', 'b'"):
        resolve({"a": served("a"), "b": served("b")}, {"c": PenaltyOverride(kappa=1.0)})


def test_a_monitor_is_as_unknown_as_a_name_that_does_not_exist() -> None:
    probes = {"a": served("a"), "watch": served("watch", monitor=True)}
    messages = []
    for name in ("watch", "nothing"):
        with pytest.raises(UnknownProbe) as caught:
            resolve(probes, {name: PenaltyOverride(kappa=1.0)})
        messages.append(caught.value.message)
    assert messages[0] == messages[1]
    assert "watch" not in messages[0]


def test_formula_names_what_is_in_the_reward() -> None:
    assert formula([]) == "R"
    assert formula([Penalty("a", 0.5, CLIP)]) == "R - lambda*clip(S)"
    assert formula([Penalty("a", 0.0, CLIP)]) == "R"
    several = [Penalty("a", 0.5, CLIP), Penalty("b", 1.0, PLAIN)]
    assert formula(several) == "R - lambda*clip(S)[a] - lambda*S[b]"


def test_nan_never_becomes_a_reward() -> None:
    with pytest.raises(NonFiniteScore):
        compose(score(math.nan), [])
