"""The four ways to use a probe, over HTTP: every number is computed again from its parts, and R of
a projected server from a plain transformers forward with a hook of the test's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
import torch
from torch import Tensor

from candor.client.schema import RewardResponse
from candor.methods import Use
from candor.scoring.served import ServedProbe
from tests.service.serving import (
    error_of,
    load_tiny,
    loaded_probe,
    running,
    score,
    tiny_app,
    tiny_reward_model,
)
from tests.tiny import tiny_tokenizer

LAMBDA = 0.5
LENGTH = 0.75
THRESHOLD = 0.1
CONTEXT = [{"role": "user", "content": "What do you think of this poem?"}]
WORDS = ["good", "the sea", "blue", "no", "thank you", "poem", "answer", "I think so"]
ITEMS = [{"messages": CONTEXT, "responses": WORDS}]


def served(use: Use, strength: float = LAMBDA) -> dict[str, ServedProbe]:
    """`sycophancy` used in this way, and `length` subtracted."""
    return {
        "sycophancy": ServedProbe(loaded_probe("sycophancy", seed=1), strength, use=use),
        "length": ServedProbe(loaded_probe("length", seed=2, layer=2), LENGTH),
        "unseen": ServedProbe(loaded_probe("unseen", seed=3), 0.0, monitor=True),
    }


@contextmanager
def serving(probes: Mapping[str, ServedProbe], **settings: Any) -> Iterator[str]:
    app = tiny_app(lambda metrics: load_tiny(metrics, served=probes, **settings))
    with running(app) as url:
        yield url


@pytest.fixture(scope="module")
def subtracted() -> Iterator[str]:
    with serving(served(Use())) as url:
        yield url


@pytest.fixture(scope="module")
def projected() -> Iterator[str]:
    with serving(served(Use("project"), 0.0), prefix_cache_mb=16) as url:
        yield url


@pytest.fixture(scope="module")
def screened() -> Iterator[str]:
    with serving(served(Use("screen", THRESHOLD), 20.0)) as url:
        yield url


@pytest.fixture(scope="module")
def apart() -> Iterator[str]:
    with serving(served(Use("advantage"))) as url:
        yield url


def responses(url: str, **body: Any) -> list[dict[str, Any]]:
    answer = score(url, {"items": ITEMS, **body})
    assert answer.status_code == 200, answer.text
    RewardResponse.model_validate(answer.json())
    return answer.json()["results"][0]["responses"]  # type: ignore[no-any-return]


def told(url: str) -> tuple[str, dict[str, str], dict[str, Any]]:
    """The formula and the methods, which an answer and /v1/models tell alike, and /v1/probes."""
    model = score(url, {"items": ITEMS}).json()["model"]
    (listed,) = httpx2.get(f"{url}/v1/models").json()["data"]
    assert (listed["formula"], listed["methods"]) == (model["formula"], model["methods"])
    probes = httpx2.get(f"{url}/v1/probes").json()["probes"]
    return model["formula"], model["methods"], {probe["name"]: probe for probe in probes}


def plain_rewards(edit: bool) -> list[float]:
    """R of each text alone by the model's own class, with sycophancy's direction taken out of the
    input of block 1 of every token, or without."""
    model, tokenizer = tiny_reward_model().model, tiny_tokenizer()
    probe = loaded_probe("sycophancy", seed=1).probe

    def change(module: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = args[0]
        logits = hidden @ probe.weight + probe.bias
        step = probe.weight / (probe.weight @ probe.weight)
        return (hidden - logits[..., None] * step, *args[1:])

    if edit:
        model.model.layers[1].register_forward_pre_hook(change)
    rewards = []
    for word in WORDS:
        turns = [*CONTEXT, {"role": "assistant", "content": word}]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.inference_mode():
            last = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, -1]
            rewards.append(model.score(last).item())
    return rewards


def test_project_answers_the_r_of_the_model_without_the_direction(
    projected: str, subtracted: str
) -> None:
    for _ in range(2):  # the second time, the context comes from the prefix cache
        found = responses(projected)
        expected = plain_rewards(edit=True)
        assert [one["base_reward"] for one in found] == pytest.approx(expected, abs=1e-4)
    raw = responses(subtracted)
    assert [one["base_reward"] for one in raw] == pytest.approx(plain_rewards(False), abs=1e-4)
    # The control: the projection changes R, and not by one number for all.
    gaps = [a - b for a, b in zip(expected, plain_rewards(False), strict=True)]
    assert max(gaps) - min(gaps) > 0.1
    for one, other in zip(found, raw, strict=True):
        own, length = one["probes"]["sycophancy"], one["probes"]["length"]
        assert own["score"] == pytest.approx(other["probes"]["sycophancy"]["score"], abs=1e-4)
        assert own["lambda"] == 0
        assert one["penalty"] == LENGTH * length["bounded"]  # the other probe is still subtracted
        assert one["reward"] == one["base_reward"] - one["penalty"]


def test_project_is_told_and_has_no_strength(projected: str) -> None:
    formula, methods, probes = told(projected)
    assert formula == "R_without[sycophancy] - lambda*clip(S)"
    assert methods == {"sycophancy": "project", "length": "subtract"}
    assert probes["sycophancy"]["method"] == "project"
    assert probes["sycophancy"]["lambda"] == 0
    assert not probes["sycophancy"]["can_raise_reward"]
    assert probes["length"]["can_raise_reward"]
    for strength in ({"lambda": 0}, {"kappa": 1.0}, {"closed_form": {"beta": 1.0}}):
        answer = score(projected, {"items": ITEMS, "penalties": {"sycophancy": strength}})
        error = error_of(answer)
        assert (answer.status_code, error.type) == (400, "invalid_request")
        assert "'sycophancy'" in error.message
        assert "--method project" in error.message
    # The other probe's strength can be set.
    off = responses(projected, penalties={"length": {"lambda": 0}})
    assert all(one["reward"] == one["base_reward"] for one in off)


def test_screen_fines_a_response_above_the_threshold_and_says_so(
    screened: str, subtracted: str
) -> None:
    found, raw = responses(screened), responses(subtracted)
    flags = [one["probes"]["sycophancy"]["score"] > THRESHOLD for one in raw]
    assert 0 < sum(flags) < len(flags)
    for one, other, flag in zip(found, raw, flags, strict=True):
        assert one["screened"] is flag
        assert one["probes"]["sycophancy"]["bounded"] == float(flag)
        assert one["base_reward"] == pytest.approx(other["base_reward"], abs=1e-5)
        fine = 20.0 * flag
        assert one["penalty"] == fine + LENGTH * one["probes"]["length"]["bounded"]
        assert one["reward"] == one["base_reward"] - one["penalty"]
        assert "screened" not in other  # a server that does not screen
    worst_kept = min(one["reward"] for one in found if not one["screened"])
    assert max(one["reward"] for one in found if one["screened"]) < worst_kept


def test_a_screened_reward_depends_on_its_own_response_alone(screened: str) -> None:
    together = responses(screened)
    for one, word in zip(together, WORDS, strict=True):
        alone = score(screened, {"items": [{"messages": CONTEXT, "responses": [word]}]}).json()
        (single,) = alone["results"][0]["responses"]
        assert single["reward"] == pytest.approx(one["reward"], abs=1e-4)
        assert single["screened"] == one["screened"]


def test_screen_is_told_and_its_fine_can_be_set(screened: str) -> None:
    formula, methods, probes = told(screened)
    assert formula == "R - lambda*[S > 0.1][sycophancy] - lambda*clip(S)[length]"
    assert methods == {"sycophancy": "screen", "length": "subtract"}
    assert probes["sycophancy"]["threshold"] == THRESHOLD
    assert probes["length"]["threshold"] is None
    assert not probes["sycophancy"]["can_raise_reward"]
    # std(R) is 2 on the card: kappa counts in standard deviations of R.
    for strength, fine in (({"kappa": 1.5}, 3.0), ({"lambda": 7.0}, 7.0)):
        for one in responses(screened, penalties={"sycophancy": strength}):
            assert one["probes"]["sycophancy"]["lambda"] == fine
    off = responses(screened, penalties={"sycophancy": {"lambda": 0}, "length": {"lambda": 0}})
    assert all(one["reward"] == one["base_reward"] and not one["screened"] for one in off)
    body = {"items": ITEMS, "penalties": {"sycophancy": {"closed_form": {"beta": 1.0}}}}
    error = error_of(score(screened, body))
    assert error.type == "invalid_request"
    assert "closed_form" in error.message
    assert "--method screen" in error.message


def test_an_empty_response_is_not_screened() -> None:
    probes = served(Use("screen", -100.0), 20.0)
    item = {"messages": CONTEXT, "responses": ["", "no"]}
    with serving(probes) as url:
        answer = score(url, {"items": [item], "empty_response": "score"}).json()
    empty, other = answer["results"][0]["responses"]
    assert (empty["screened"], empty["penalty"]) == (False, 0.0)
    assert other["screened"]


def test_advantage_answers_r_and_the_penalty_beside_it(apart: str, subtracted: str) -> None:
    for one, other in zip(responses(apart), responses(subtracted), strict=True):
        own, length = one["probes"]["sycophancy"], one["probes"]["length"]
        assert one["advantage_penalty"] == LAMBDA * own["bounded"]
        assert own["bounded"] == pytest.approx(other["probes"]["sycophancy"]["bounded"], abs=1e-4)
        assert own["lambda"] == LAMBDA
        assert one["penalty"] == LENGTH * length["bounded"]
        assert one["reward"] == one["base_reward"] - one["penalty"]
        together = one["reward"] - one["advantage_penalty"]
        assert together == pytest.approx(other["reward"], abs=1e-4)
        assert "advantage_penalty" not in other
    assert len({one["advantage_penalty"] for one in responses(apart)}) > 2  # the control


def test_advantage_is_told_and_takes_every_strength(apart: str) -> None:
    formula, methods, probes = told(apart)
    assert formula == "R - lambda*clip(S); advantages: - lambda*clip(S)"
    assert methods["sycophancy"] == "advantage"
    assert probes["sycophancy"]["can_raise_reward"]  # in the advantages
    for one in responses(apart, penalties={"sycophancy": {"lambda": 2.0}}):
        assert one["advantage_penalty"] == 2.0 * one["probes"]["sycophancy"]["bounded"]
    form = {"sycophancy": {"closed_form": {"beta": 1.5}}, "length": {"lambda": 0}}
    for one in responses(apart, penalties=form):
        own = one["probes"]["sycophancy"]
        assert own["bounded"] in (0.0, 1.0)
        assert one["advantage_penalty"] == own["lambda"] * own["bounded"]
        assert one["reward"] == one["base_reward"]


@pytest.mark.parametrize("combine", ["sum", "max", "spread"])
def test_terms_are_combined_within_the_reward_and_beside_it_apart(combine: str) -> None:
    probes = served(Use("advantage"))
    probes["warmth"] = ServedProbe(loaded_probe("warmth", seed=4), 1.0, use=Use("advantage"))
    with serving(probes, combine=combine) as url:
        formula, _, _ = told(url)
        found = responses(url)
    beside = formula.partition("; advantages: - ")[2]
    assert "sycophancy" in beside
    assert "warmth" in beside
    assert "length" not in beside
    for one in found:
        a, b = (LAMBDA, 1.0)
        x = a * one["probes"]["sycophancy"]["bounded"]
        y = b * one["probes"]["warmth"]["bounded"]
        mean, half = (x + y) / 2, abs(x - y) / 2  # of two numbers, the population's std
        expected = {"sum": x + y, "max": max(x, y), "spread": mean + half}[combine]
        assert one["advantage_penalty"] == pytest.approx(expected, abs=1e-12)
        assert one["penalty"] == LENGTH * one["probes"]["length"]["bounded"]
