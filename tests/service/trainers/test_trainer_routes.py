"""Cases without a golden body: the key, settings, activations, truncation, refusals."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from typing import Any

import aiohttp
import httpx2
import pytest
import requests

from candor.http.trainer_routes import ROUTES
from candor.jobs.check.recorded import recorded
from candor.trainers.contract import sigmoid
from candor.trainers.options import TrainerRoutes
from tests.service.serving import load_tiny, running, tiny_app, tiny_probes
from tests.service.trainers.golden import native

KEY = "a-key"
GOLDEN = {golden.name: golden for golden in recorded()}
QUERY = GOLDEN["openrlhf-0.9.1"].body["query"][0]
ITEMS = GOLDEN["openrlhf-0.9.1"].items
CONTRACTS = [(path, contract) for path, contracts in ROUTES.items() for contract in contracts]


def ask(url: str, path: str, body: Any, **options: Any) -> Any:
    response = httpx2.post(url + path, json=body, timeout=60, **options)
    assert response.status_code == 200, response.text
    return response.json()


def refused(url: str, path: str, body: Any) -> Any:
    """The error in the answer to an invalid request."""
    response = httpx2.post(url + path, json=body, timeout=60)
    assert 400 <= response.status_code < 500, response.text
    assert response.json().keys() == {"error"}
    return response.json()["error"]


# -- the documented examples


@pytest.mark.parametrize(("path", "contract"), CONTRACTS)
def test_the_documented_example_is_answered_in_the_documented_form(
    url: str, path: str, contract: Any
) -> None:
    def form(value: Any) -> Any:
        if isinstance(value, dict):
            # The tiny server has a second probe.
            return {k: form(v) for k, v in value.items() if k != "score_length"}
        return [form(part) for part in value] if isinstance(value, list) else type(value)

    assert form(ask(url, path, contract.example)) == form(contract.answer)


# -- the key


@pytest.fixture(scope="module")
def locked() -> Iterator[str]:
    with running(tiny_app(api_key=KEY)) as url:
        yield url


@pytest.mark.parametrize("path", ROUTES)
def test_no_route_answers_without_the_key(locked: str, path: str) -> None:
    example = ROUTES[path][0].example
    for headers in ({}, {"authorization": "Bearer wrong"}):
        response = httpx2.post(locked + path, json=example, headers=headers)
        assert response.status_code == 401
        assert response.json().keys() == {"error"}
    ask(locked, path, example, headers={"authorization": f"Bearer {KEY}"})
    ask(locked, path, example, auth=("anyone", KEY))


def test_a_key_in_the_url_reaches_the_server_from_the_trainers_own_libraries(locked: str) -> None:
    example = ROUTES["/get_reward"][0].example
    url = locked.replace("http://", f"http://anyone:{KEY}@") + "/get_reward"
    assert requests.post(url, json=example, timeout=60).status_code == 200

    async def by_aiohttp() -> int:
        async with aiohttp.ClientSession() as session, session.post(url, json=example) as response:
            return response.status

    assert asyncio.run(by_aiohttp()) == 200


# -- OpenRLHF's settings


def test_the_fields_carry_the_numbers_they_are_told_to() -> None:
    told = TrainerRoutes(openrlhf_rewards="base_reward", openrlhf_extra_logs=False)
    with running(tiny_app(trainers=told)) as url:
        answer = ask(url, "/get_reward", {"query": [QUERY]})
        (one,) = native(url, ITEMS)
    assert answer.keys() == {"rewards", "scores"}
    assert answer["rewards"] == pytest.approx([one["base_reward"]], abs=1e-5)
    assert answer["scores"] == pytest.approx([one["reward"]], abs=1e-5)
    assert abs(one["penalty"]) > 1e-3


def test_extra_logs_have_the_same_keys_for_every_sample_and_no_monitor(url: str) -> None:
    full = ask(url, "/get_reward", {"query": [QUERY, QUERY]})["extra_logs"]
    empty = ask(url, "/get_reward", {"query": []})["extra_logs"]
    assert full.keys() == empty.keys()
    assert full.keys() == {"reward", "base_reward", "penalty", "score_sycophancy", "score_length"}
    assert all(len(values) == 2 for values in full.values())
    assert "unseen" not in json.dumps(full)


def test_a_whole_float_is_still_a_float_on_the_wire(url: str) -> None:
    """A reward of 2 as an int would make an int tensor in the trainer."""
    with running(tiny_app(lambda metrics: load_tiny(metrics, served={}))) as bare:
        text = httpx2.post(f"{bare}/get_reward", json={"query": [QUERY]}).text
    assert '"penalty":[0.0]' in text


# -- where the response begins


def test_prompts_place_the_response_where_a_policy_writes_a_turn_of_its_own(url: str) -> None:
    """Without `prompts` the response is the last turn. With `prompts` it is all that the policy
    wrote."""
    prompt = QUERY[: QUERY.index("assistant\n") + len("assistant\n")]
    written = "I love it!<|im_end|>\n<|im_start|>assistant\nIt is blue."
    told = ask(url, "/get_reward", {"query": [prompt + written], "prompts": [prompt]})
    whole, last = (
        native(url, [{"messages": ITEMS[0]["messages"], "responses": [text]}])[0]["probes"]
        for text in (written, "It is blue.")
    )
    score = told["extra_logs"]["score_sycophancy"][0]
    assert score == pytest.approx(whole["sycophancy"]["score"], abs=1e-5)
    assert abs(score - last["sycophancy"]["score"]) > 1e-3


def test_text_of_another_template_is_refused_until_a_marker_places_its_response(
    url: str,
) -> None:
    text = "Human: Is it good?\nAssistant: It is very good."
    error = refused(url, "/get_reward", {"query": [QUERY, text]})
    assert (error["type"], error["item"]) == ("invalid_request", 1)
    assert "'prompts'" in error["message"]
    assert "--turn-marker" in error["message"]
    items = [
        {
            "prompt": "Human: Is it good?\nAssistant:",
            "templated": True,
            "responses": [" It is very good."],
        }
    ]
    expected = native(url, items)[0]["reward"]
    body = {"query": [text], "prompts": ["Human: Is it good?\nAssistant:"]}
    assert "another chat template" in refused(url, "/get_reward", body)["message"]
    with running(tiny_app(trainers=TrainerRoutes(turn_marker="\nAssistant:"))) as marked:
        got = ask(marked, "/get_reward", {"query": [text]})["rewards"]
        assert ask(marked, "/get_reward", body)["rewards"] == got
        served = ask(marked, "/get_reward", {"query": [QUERY]})["rewards"]
    assert got == pytest.approx([expected], abs=1e-5)
    assert served == pytest.approx([native(url, ITEMS)[0]["reward"]], abs=1e-5)


def test_a_text_without_the_template_is_refused_with_and_without_a_probe() -> None:
    text = "Human: Is it good?\nAssistant: It is very good."
    with running(tiny_app(lambda metrics: load_tiny(metrics, served={}))) as bare:
        assert "--turn-marker" in refused(bare, "/get_reward", {"query": [text]})["message"]
        assert ask(bare, "/get_reward", {"query": [QUERY]})["rewards"]
    monitored = {name: one for name, one in tiny_probes().items() if one.monitor}
    with running(tiny_app(lambda metrics: load_tiny(metrics, served=monitored))) as watched:
        # A monitor reads the response too, so it must not silently get another span.
        assert "--turn-marker" in refused(watched, "/get_reward", {"query": [text]})["message"]


# -- activations


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("/classify", {"input": QUERY}, {"use_activation": True}),
        ("/classify", {"input": QUERY}, {"activation": True}),
        ("/classify", {"input": QUERY}, {"softmax": True}),
        ("/pooling", {"input": QUERY}, {"use_activation": True}),
        ("/score", {"text_1": "Is it good?", "text_2": "Yes."}, {"use_activation": True}),
        ("/rerank", {"query": "Is it good?", "documents": ["Yes."]}, {"raw_scores": False}),
        ("/rerank", {"query": "Is it good?", "texts": ["Yes."]}, {"raw_scores": False}),
        ("/predict", {"inputs": QUERY}, {"raw_scores": False}),
    ],
)
def test_the_sigmoid_is_there_where_it_is_asked_for_and_nowhere_else(
    url: str, path: str, body: dict[str, Any], fields: dict[str, bool]
) -> None:
    def numbers(answer: Any) -> list[float]:
        if isinstance(answer, dict):
            kept = ("data", "results", "probs", "score", "relevance_score")
            return [n for key in kept if key in answer for n in numbers(answer[key])]
        if isinstance(answer, list):
            return [n for part in answer for n in numbers(part)]
        return [answer] if isinstance(answer, float) else []

    (raw,) = numbers(ask(url, path, body))
    (off,) = numbers(ask(url, path, body | {name: not on for name, on in fields.items()}))
    (on,) = numbers(ask(url, path, body | fields))
    assert raw == pytest.approx(off, abs=1e-5)
    assert on == pytest.approx(1 / (1 + math.exp(-raw)), abs=1e-5)
    assert abs(on - raw) > 1e-2


def test_the_sigmoid_does_not_overflow() -> None:
    assert (sigmoid(0.0), sigmoid(-2000.0), sigmoid(2000.0)) == (0.5, 0.0, 1.0)


# -- truncation


LONG = "The poem is about the sea. " * 60


def test_text_over_the_window_is_refused_unless_left_is_asked_for_or_set(url: str) -> None:
    flat = f"<|im_start|>user\n{LONG}<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>"
    assert refused(url, "/get_reward", {"query": [flat]})["type"] == "too_long"
    item = {"messages": [{"role": "user", "content": LONG}], "responses": ["Yes."]}
    answer = httpx2.post(f"{url}/v1/rewards", json={"items": [item], "truncation": "left"}).json()
    expected = answer["results"][0]["responses"][0]["reward"]
    cut = {"input": flat, "truncate_prompt_tokens": -1}
    got = ask(url, "/classify", cut)["data"][0]["probs"]
    assert got == pytest.approx([expected], abs=1e-5)
    predicted = ask(url, "/predict", {"inputs": flat, "truncate": True})
    assert predicted[0]["score"] == pytest.approx(expected, abs=1e-5)
    with running(tiny_app(trainers=TrainerRoutes(truncation="left"))) as left:
        told = ask(left, "/get_reward", {"query": [flat]})["rewards"]
    assert told == pytest.approx([expected], abs=1e-5)


# -- refusals


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/get_reward", {"text": ["a"]}, "'query' (OpenRLHF); or 'prompts' and 'responses'"),
        ("/get_reward", {"query": "a"}, "query: must be a valid list"),
        ("/get_reward", {"query": ["a", 3]}, "query[1]: must be a valid string"),
        ("/get_reward", {"query": ["a"], "prompts": ["a", "b"]}, "'prompts' has 2 texts"),
        ("/get_reward", {"prompts": ["a"], "responses": []}, "'prompts' has 1 texts"),
        ("/get_reward", ["a"], "must be a JSON object"),
        ("/slime", {"prompt": 3, "response": "a"}, "a text or a list of messages"),
        ("/slime", {"prompt": [{"role": "cat", "content": "a"}], "response": "a"}, "prompt[0].rol"),
        ("/slime", {"prompt": "a"}, "'prompt' and 'response' (slime)"),
        ("/classify", {}, "'input' or 'messages' (vLLM and verl); or 'text' or 'input_ids'"),
        ("/classify", {"input": []}, "input: must be a text, token ids"),
        ("/classify", {"input": [1, "a"]}, "number 0 is neither"),
        ("/classify", {"input": [[99999]]}, "token ids must be from 0"),
        ("/classify", {"input": "a", "truncate_prompt_tokens": 8}, "must be -1"),
        (
            "/classify",
            {"input": "a", "truncate_prompt_tokens": -1, "truncation_side": "right"},
            "would cut the response",
        ),
        ("/classify", {"messages": [{"role": "user", "content": "a"}]}, "assistant's turn"),
        ("/classify", {"text": []}, "'text': must be a text"),
        ("/classify", {"text": "a", "return_pooled_hidden_states": True}, "no hidden states"),
        ("/pooling", {"input": "a", "task": "token_embed"}, "one reward per text"),
        ("/score", {"text_1": ["a", "b"], "text_2": ["c"]}, "2 first texts and 1 second"),
        ("/score", {"text_1": "a"}, "and 0 second"),
        ("/score", {"text_1": "a", "text_2": [1, 2]}, "not token ids"),
        ("/rerank", {"query": "a"}, "'documents' and 'query' (vLLM"),
        ("/rerank", {"query": "a", "documents": []}, "documents: "),
        ("/predict", {"inputs": ["a", "b", "c"]}, "one text or two"),
        ("/predict", {"inputs": [["a"], 3]}, "number 1 is neither"),
        ("/predict", {"inputs": "a", "truncate": True, "truncation_direction": "Right"}, "left"),
        ("/v1/score/evaluation", {"messages": []}, "messages: "),
    ],
)
def test_a_body_that_cannot_be_right_is_refused_with_the_field_and_the_fix(
    url: str, path: str, body: Any, says: str
) -> None:
    error = refused(url, path, body)
    assert error["type"] == "invalid_request"
    assert says in error["message"]


def test_a_body_that_is_no_json_is_refused(url: str) -> None:
    kind = {"content-type": "application/json"}
    for content in (b"{", b'{"query": [NaN]}', b'{"query": ["\\ud800"]}', b"\xff"):
        response = httpx2.post(f"{url}/get_reward", content=content, headers=kind)
        assert response.status_code == 400
        assert response.json()["error"]["type"] == "invalid_request"


def test_rerank_gives_the_best_first_and_top_n_of_them(url: str) -> None:
    body = {"query": "Is the sea blue?", "documents": ["Yes.", "The poem is good.", "no"]}
    every = ask(url, "/rerank", body)["results"]
    assert len(every) == 3
    assert ask(url, "/rerank", body | {"top_n": 1})["results"][0]["index"] == every[0]["index"]
    assert len(ask(url, "/rerank", body | {"top_n": 1})["results"]) == 1
