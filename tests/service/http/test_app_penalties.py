"""Several probes in one penalty, and lambda in closed form, over HTTP. The tests compute the
answer's numbers again from its parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from candor.client.reward import RewardClient
from candor.client.schema import RewardResponse
from candor.probes.combine import Combination
from candor.probes.tilt import closed_form_lambda
from candor.scoring.served import ServedProbe
from tests.service.serving import BODY, load_tiny, loaded_probe, running, score, tiny_app

COMBINATIONS = [Combination("sum"), Combination("max"), Combination("spread", 0.75)]
WORDS = ["good", "the sea", "blue", "no", "thank you", "poem", "answer", "I think so", "assistant"]
ITEMS = [
    {
        "messages": [{"role": "user", "content": f"What do you think of poem {number}?"}],
        "responses": [f"{word} {number}" for word in WORDS[: 9 - number]],
    }
    for number in range(9)
]
"""The items have nine responses, eight, and so on down to one."""


def served(**lambdas: float) -> dict[str, ServedProbe]:
    found = {
        name: ServedProbe(loaded_probe(name, seed=seed, layer=layer), lambdas.get(name, 0.0))
        for name, seed, layer in (("sycophancy", 1, 1), ("length", 2, 2), ("warmth", 4, 1))
    }
    monitor = ServedProbe(loaded_probe("unseen", seed=3), 0.0, monitor=True)
    return found | {"unseen": monitor}


@pytest.fixture(scope="module", params=COMBINATIONS, ids=lambda one: one.kind)
def combined(request: pytest.FixtureRequest) -> Iterator[tuple[str, Combination]]:
    """A server with three probes, of which two have a penalty."""
    probes = served(sycophancy=0.5, length=0.75)
    asked: dict[str, Any] = {"combine": request.param.kind}
    if request.param.kind == "spread":
        asked["spread_weight"] = request.param.spread_weight
    app = tiny_app(lambda metrics: load_tiny(metrics, served=probes, **asked))
    with running(app) as url:
        yield url, request.param


def scored_responses(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [scored for result in answer["results"] for scored in result["responses"]]


def terms(scored: dict[str, Any]) -> list[float]:
    readings = scored["probes"].values()
    return [one["lambda"] * one["bounded"] for one in readings if one["lambda"] > 0]


def test_the_penalty_is_the_combination_of_the_terms_told(
    combined: tuple[str, Combination],
) -> None:
    url, combination = combined
    answer = score(url, {"items": ITEMS}).json()
    RewardResponse.model_validate(answer)
    for scored in scored_responses(answer):
        assert len(terms(scored)) == 2
        assert scored["penalty"] == combination(terms(scored))
        assert scored["reward"] == scored["base_reward"] - scored["penalty"]
    assert answer["model"]["combine"] == {
        "kind": combination.kind,
        "spread_weight": combination.spread_weight,
    }
    # Control: another combination gives other penalties.
    for other in COMBINATIONS:
        same = [other(terms(one)) == one["penalty"] for one in scored_responses(answer)]
        assert all(same) == (other == combination)


def test_the_formula_and_the_models_route_say_which(combined: tuple[str, Combination]) -> None:
    url, combination = combined
    parts = "lambda*clip(S)[sycophancy]", "lambda*clip(S)[length]"
    told = score(url).json()["model"]["formula"]
    assert told == "R" + combination.symbol(parts)
    with RewardClient(url) as client:
        (model,) = client.models()["data"]
    assert model["formula"] == told
    assert model["combine"]["kind"] == combination.kind


def test_every_lambda_zero_is_the_base_reward_to_the_bit(combined: tuple[str, Combination]) -> None:
    url, _ = combined
    off = {"sycophancy": {"lambda": 0}, "length": {"kappa": 0}}
    answer = score(url, {"items": ITEMS, "penalties": off}).json()
    assert answer["model"]["formula"] == "R"
    assert all(
        one["reward"] == one["base_reward"] and one["penalty"] == 0
        for one in scored_responses(answer)
    )


def test_one_penalty_is_its_term_under_every_combination(combined: tuple[str, Combination]) -> None:
    url, _ = combined
    answer = score(url, {"items": ITEMS, "penalties": {"length": {"lambda": 0}}}).json()
    assert answer["model"]["formula"] == "R - lambda*clip(S)"
    for scored in scored_responses(answer):
        reading = scored["probes"]["sycophancy"]
        assert scored["penalty"] == reading["lambda"] * reading["bounded"]
    # A negative term stays negative, although the terms of switched-off probes are 0.
    assert min(scored["penalty"] for scored in scored_responses(answer)) < 0


def test_the_client_believes_every_combination(combined: tuple[str, Combination]) -> None:
    url, combination = combined
    with RewardClient(url) as client:
        reply = client.rewards(ITEMS, penalties={"length": {"closed_form": {"beta": 2.0}}})
    assert reply.model.combine.kind == combination.kind
    assert reply.model.combine.spread_weight == combination.spread_weight


# -- lambda in closed form


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(tiny_app(lambda metrics: load_tiny(metrics, served=served()))) as url:
        yield url


@pytest.mark.parametrize(
    ("given", "threshold"),
    [
        # The card's bound is not a hinge, so the threshold is its median S.
        ({"beta": 1.5}, 0.0),
        ({"beta": 1.5, "threshold": 0.4}, 0.4),
        ({"beta": 0.01}, 0.0),
        ({"beta": 1000.0}, 0.0),
    ],
)
def test_each_item_has_the_closed_form_of_its_own_responses(
    url: str, given: dict[str, float], threshold: float
) -> None:
    body = {"items": ITEMS, "penalties": {"sycophancy": {"closed_form": given}}}
    answer = score(url, body).json()
    assert answer["model"]["formula"] == f"R - lambda(x)*[S > {threshold:g}]"
    found = []
    for result in answer["results"]:
        responses = result["responses"]
        readings = [one["probes"]["sycophancy"] for one in responses]
        flags = [float(one["score"] > threshold) for one in readings]
        strength = closed_form_lambda(
            [one["base_reward"] for one in responses], flags, given["beta"]
        )
        assert [one["bounded"] for one in readings] == flags
        assert {one["lambda"] for one in readings} == {strength}
        for one, flag in zip(responses, flags, strict=True):
            assert one["penalty"] == strength * flag
            assert one["reward"] == one["base_reward"] - one["penalty"]
        if len(set(flags)) == 1:
            assert strength == 0
        found.append(strength)
    assert found[-1] == 0  # a single response
    # Several items have a lambda of their own; in some, R does not favour the flagged responses.
    assert len({strength for strength in found if strength > 0}) >= 2
    assert found[:-1].count(0) >= 1


def test_an_item_is_the_same_alone_and_among_others(url: str) -> None:
    penalties = {"sycophancy": {"closed_form": {"beta": 1.5}}}
    together = score(url, {"items": ITEMS, "penalties": penalties}).json()["results"]
    for item, result in zip(ITEMS, together, strict=True):
        (alone,) = score(url, {"items": [item], "penalties": penalties}).json()["results"]
        for one, other in zip(alone["responses"], result["responses"], strict=True):
            strength = one["probes"]["sycophancy"]["lambda"]
            assert strength == pytest.approx(other["probes"]["sycophancy"]["lambda"], abs=1e-4)


def test_two_items_with_the_same_context_are_two_items(url: str) -> None:
    split = [{**ITEMS[0], "responses": [text]} for text in ITEMS[0]["responses"]]
    body = {"items": split, "penalties": {"sycophancy": {"closed_form": {"beta": 1.5}}}}
    answer = score(url, body).json()
    assert {one["penalty"] for one in scored_responses(answer)} == {0.0}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"closed_form": {}}, "penalties.sycophancy.closed_form.beta: is required"),
        ({"closed_form": {"beta": 0}}, "closed_form.beta"),
        ({"closed_form": {"beta": -1}}, "closed_form.beta"),
        ({"closed_form": {"beta": "1"}}, "closed_form.beta"),
        ({"closed_form": {"beta": 1, "treshold": 0}}, "closed_form.treshold: unknown field"),
        ({"closed_form": {"beta": 1}, "lambda": 1}, "exactly one of"),
        ({"closed_form": {"beta": 1}, "kappa": 0}, "exactly one of"),
        ({}, "exactly one of 'lambda', 'kappa' and 'closed_form'"),
    ],
)
def test_a_wrong_closed_form_is_refused_by_its_field(
    url: str, override: dict[str, Any], words: str
) -> None:
    response = score(url, BODY | {"penalties": {"sycophancy": override}})
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]
