"""The reward's arithmetic, compared with results by hand and to the bit."""

from __future__ import annotations

import math
import struct
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from candor.client.schema import PenaltyOverride
from candor.errors import InvalidRequest, NonFiniteScore, UnknownProbe
from candor.item import Reading, Score
from candor.probes.artifact import LoadedProbe
from candor.probes.bound import Bound
from candor.probes.card import BoundSpec, Calibration, Card, DataInfo, ModelIdentity
from candor.probes.combine import Combination
from candor.probes.probe import Probe
from candor.probes.tilt import Threshold
from candor.scoring.compose import (
    ClosedFormPenalty,
    Penalty,
    compose,
    compose_groups,
    flag_threshold,
    formula,
    resolve,
)
from candor.scoring.served import Served, ServedProbe

CLIP = Bound("clip", low=-1.0, high=2.0)
PLAIN = Bound("none")


def served(name: str, default_lambda: float = 0.5, *, monitor: bool = False) -> ServedProbe:
    """std_R = 3, std of bound(S) = 0.5: kappa 1 is lambda 6."""
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
            std_bounded_S=0.5,
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


COMBINATIONS = [Combination("sum"), Combination("max"), Combination("spread", 0.5)]


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda one: one.kind)
@pytest.mark.parametrize("s", [-3.0, -0.0, 0.0, 5.0])
@given(base=finite)
def test_with_every_lambda_zero_the_reward_is_the_base_reward_to_the_bit(
    combination: Combination, s: float, base: float
) -> None:
    penalties = [Penalty("a", 0.0, PLAIN), Penalty("b", 0.0, CLIP)]
    composed = compose(score(base, a=s, b=-s), penalties, combination)
    assert bits(composed.penalty) == bits(0.0)
    assert bits(composed.reward) == bits(base)


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda one: one.kind)
@given(base=finite, s=finite, strength=st.floats(min_value=1e-3, max_value=1e3))
def test_a_probe_that_is_off_has_no_term_and_one_term_is_the_penalty(
    combination: Combination, base: float, s: float, strength: float
) -> None:
    penalties = [Penalty("a", strength, PLAIN), Penalty("b", 0.0, PLAIN)]
    composed = compose(score(base, a=s, b=7.0), penalties, combination)
    assert composed.penalty == strength * s
    assert bits(composed.reward) == bits(base - composed.penalty)
    assert composed.bounded == {"a": s, "b": 7.0}


def test_terms_are_combined_as_told() -> None:
    penalties = [Penalty("a", 0.5, PLAIN), Penalty("b", 2.0, PLAIN)]
    found = [
        compose(score(1.0, a=2.0, b=-1.5), penalties, combination) for combination in COMBINATIONS
    ]
    # Terms 1 and -3: mean -1, standard deviation 2.
    assert [one.penalty for one in found] == [-2.0, 1.0, 0.0]
    assert [one.reward for one in found] == [3.0, 0.0, 1.0]


def test_a_negative_zero_base_reward_stays_one() -> None:
    assert bits(compose(score(-0.0, a=1.0), [Penalty("a", 0.0, PLAIN)]).reward) == bits(-0.0)
    assert bits(compose(score(-0.0), []).reward) == bits(-0.0)


def test_a_reward_that_overflows_is_refused() -> None:
    with pytest.raises(NonFiniteScore):
        compose(score(0.0, a=1e200), [Penalty("a", 1e200, PLAIN)])


def test_defaults_are_served_in_order_and_monitors_are_not() -> None:
    probes = {"b": served("b", 0.25), "watch": served("watch", monitor=True), "a": served("a")}
    penalties = resolve(Served(probes), {})
    assert [(p.name, p.lambda_) for p in penalties] == [("b", 0.25), ("a", 0.5)]
    assert penalties[0].bound == CLIP


def test_a_lambda_replaces_the_default() -> None:
    override = PenaltyOverride.model_validate({"lambda": 0})
    assert resolve(Served({"a": served("a")}), {"a": override})[0].lambda_ == 0.0


def test_kappa_becomes_lambda_by_the_spreads_of_the_card() -> None:
    override = PenaltyOverride(kappa=1.0)
    assert resolve(Served({"a": served("a")}), {"a": override})[0].lambda_ == 6.0


def test_an_unknown_probe_is_refused_naming_those_served() -> None:
    with pytest.raises(UnknownProbe, match="served: 'a', 'b'"):
        resolve(Served({"a": served("a"), "b": served("b")}), {"c": PenaltyOverride(kappa=1.0)})


def test_a_monitor_is_as_unknown_as_a_name_that_does_not_exist() -> None:
    probes = {"a": served("a"), "watch": served("watch", monitor=True)}
    messages = []
    for name in ("watch", "nothing"):
        with pytest.raises(UnknownProbe) as caught:
            resolve(Served(probes), {name: PenaltyOverride(kappa=1.0)})
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


# -- lambda in closed form

FLAG = Threshold(0.5)


def test_each_item_has_its_own_lambda_by_hand() -> None:
    """With beta 1000, lambda is the largest flagged R minus the largest other R."""
    penalty = ClosedFormPenalty("a", 1000.0, FLAG)
    places = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (3, 0), (3, 1)]
    scores = [
        score(3.0, a=1.0),
        score(1.0, a=0.0),
        score(2.0, a=2.0),
        score(1.0, a=1.0),  # R does not favour the flagged response
        score(5.0, a=0.5),
        score(9.0, a=1.0),  # the only response
        score(1.0, a=0.0),  # no response is flagged
        score(2.0, a=0.1),
    ]
    composed = compose_groups(places, scores, [penalty], Combination("sum"))
    strength = composed[0].lambdas["a"]
    assert strength == pytest.approx(2.0, abs=0.01)
    assert [one.lambdas["a"] for one in composed] == [strength] * 3 + [0.0] * 5
    assert [one.bounded["a"] for one in composed] == [1, 0, 1, 1, 0, 1, 0, 0]
    assert [one.penalty for one in composed] == [strength, 0.0, strength] + [0.0] * 5
    assert [bits(one.reward) for one in composed[3:]] == [
        bits(one.base_reward) for one in scores[3:]
    ]


def test_a_closed_form_beside_a_plain_penalty() -> None:
    penalties = [Penalty("b", 0.5, PLAIN), ClosedFormPenalty("a", 1000.0, FLAG)]
    scores = [score(3.0, a=1.0, b=2.0), score(1.0, a=0.0, b=2.0)]
    first, second = compose_groups([(0, 0), (0, 1)], scores, penalties, Combination("max"))
    assert first.penalty == first.lambdas["a"] > 1.9
    assert second.penalty == 1.0


def test_an_overflow_is_blamed_on_its_item_and_response() -> None:
    scores = [score(0.0, a=1.0), score(0.0, a=1e200)]
    with pytest.raises(NonFiniteScore) as caught:
        compose_groups([(3, 0), (3, 1)], scores, [Penalty("a", 1e200, PLAIN)], Combination("sum"))
    assert (caught.value.item, caught.value.response) == (3, 1)


def test_an_override_makes_a_closed_form_with_the_cards_threshold_or_its_own() -> None:
    (default,) = resolve(
        Served({"a": served("a")}),
        {"a": PenaltyOverride.model_validate({"closed_form": {"beta": 2}})},
    )
    assert default == ClosedFormPenalty("a", 2.0, Threshold(0.0))  # the median of the card
    given_one = {"closed_form": {"beta": 2, "threshold": -0.25}}
    (own,) = resolve(Served({"a": served("a")}), {"a": PenaltyOverride.model_validate(given_one)})
    assert own == ClosedFormPenalty("a", 2.0, Threshold(-0.25))


def test_a_hinges_reference_is_the_threshold_and_a_card_without_median_has_none() -> None:
    card = served("a").loaded.card
    hinge = BoundSpec(kind="hinge", reference=0.75)
    assert flag_threshold(card.model_copy(update={"bound": hinge})) == 0.75
    bare = card.calibration.model_copy(update={"percentiles": {"p1": -1.0}})
    with pytest.raises(InvalidRequest, match="give 'closed_form' a 'threshold'"):
        flag_threshold(card.model_copy(update={"calibration": bare}))


def test_formulas_of_combinations_and_closed_forms() -> None:
    plain, off, form = (
        Penalty("a", 0.5, CLIP),
        Penalty("b", 0.0, CLIP),
        ClosedFormPenalty("c", 2.0, FLAG),
    )
    assert formula([form]) == "R - lambda(x)*[S > 0.5]"
    both = [plain, off, form]
    assert formula(both) == "R - lambda*clip(S)[a] - lambda(x)*[S > 0.5][c]"
    inside = "lambda*clip(S)[a], lambda(x)*[S > 0.5][c]"
    assert formula(both, Combination("max")) == f"R - max({inside})"
    assert formula(both, Combination("spread")) == f"R - mean({inside}) - 1*std({inside})"


def test_each_method_puts_its_term_where_it_says() -> None:
    penalties = [
        Penalty("a", 0.5, PLAIN),
        Penalty("b", 2.0, PLAIN, "advantage"),
        Penalty("c", 7.0, Threshold(1.0), "screen"),
        Penalty("d", 0.0, PLAIN, "project"),
    ]
    composed = compose(score(1.0, a=1.5, b=0.25, c=1.25, d=9.0), penalties)
    assert composed.penalty == 0.75 + 7.0
    assert composed.reward == 1.0 - 7.75
    assert composed.advantage_penalty == 0.5
    assert composed.screened
    assert composed.bounded == {"a": 1.5, "b": 0.25, "c": 1.0, "d": 9.0}
    passed = compose(score(1.0, a=1.5, b=0.25, c=1.0, d=9.0), penalties)
    assert (passed.penalty, passed.screened) == (0.75, False)
    off = replace(penalties[2], lambda_=0.0)
    flagged = compose(score(1.0, c=1.25), [off])
    assert (flagged.bounded, flagged.screened, flagged.reward) == ({"c": 1.0}, False, 1.0)
    empty = replace(score(1.0, a=1.5, b=0.25, c=1.25, d=9.0), is_empty=True)
    nothing = compose(empty, penalties)
    assert (nothing.reward, nothing.advantage_penalty, nothing.screened) == (1.0, 0.0, False)


def test_an_advantage_penalty_that_overflows_is_an_error_too() -> None:
    with pytest.raises(NonFiniteScore):
        compose(score(0.0, a=1e300), [Penalty("a", 1e300, PLAIN, "advantage")])


def test_formulas_of_the_methods() -> None:
    project = Penalty("p", 0.0, PLAIN, "project")
    screen = Penalty("s", 7.0, Threshold(0.5), "screen")
    apart = Penalty("a", 0.5, CLIP, "advantage")
    assert formula([project]) == "R_without[p]"
    assert formula([project, replace(project, name="q")]) == "R_without[p, q]"
    assert formula([screen]) == "R - lambda*[S > 0.5]"
    assert formula([apart]) == "R; advantages: - lambda*clip(S)"
    assert formula([project, Penalty("b", 1.0, PLAIN), apart]) == (
        "R_without[p] - lambda*S; advantages: - lambda*clip(S)"
    )
    assert formula([replace(apart, lambda_=0.0)]) == "R"
