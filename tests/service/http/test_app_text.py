"""What a text must be to get a number: templated, or meant as it is; empty turns; warnings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import torch

from candor.client.schema import RewardResponse
from candor.trainers.options import TrainerRoutes
from tests.service.serving import (
    error_of,
    load_tiny,
    metric,
    running,
    score,
    tiny_app,
    tiny_reward_model,
)
from tests.service.text.templates import TOOLS, TWO_ROLES
from tests.tiny import tiny_tokenizer

HEAD = "<|im_start|>user\nIs it good?<|im_end|>\n<|im_start|>assistant\n"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Is it good?"}]}
OTHER = "[INST] Is it good? [/INST]"
REPLY = "It is very good."


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(tiny_app()) as url:
        yield url


def asked(url: str, item: dict[str, Any], **fields: Any) -> RewardResponse:
    response = score(url, {"items": [item], **fields})
    assert response.status_code == 200, response.text
    return RewardResponse.model_validate_json(response.content)


def reward(url: str, item: dict[str, Any], **fields: Any) -> float:
    return asked(url, item, **fields).results[0].responses[0].reward


def by_transformers(text: str) -> float:
    """R, by transformers' own forward."""
    model = tiny_reward_model()
    ids = torch.tensor([tiny_tokenizer()(text, add_special_tokens=False).input_ids])
    with torch.inference_mode():
        hidden = model.model.model(ids).last_hidden_state[0, -1]
        return float(model.model.score(hidden))


# -- prompts


@pytest.mark.parametrize(
    "prompt", ["Is it good?", OTHER, "<|im_start|>user\nIs it good?<|im_end|>\n", ""]
)
def test_a_prompt_without_a_turn_of_the_template_is_refused_unless_it_is_meant(
    url: str, prompt: str
) -> None:
    item = {"prompt": prompt, "responses": [REPLY]}
    response = score(url, {"items": [CHAT | {"responses": [REPLY]}, item]})
    error = error_of(response)
    assert (response.status_code, error.item, error.response) == (400, 1, 0)
    for word in ("'prompt'", "'messages'", '"templated": true'):
        assert word in error.message
    assert ("another model's template" in error.message) is (prompt == OTHER)
    meant = asked(url, item | {"templated": True}).results[0].responses[0]
    assert meant.base_reward == pytest.approx(by_transformers(prompt + REPLY), abs=1e-5)


def test_a_templated_prompt_gives_what_its_messages_give(url: str) -> None:
    """The control: with the template nothing is refused, and without it the number is another."""
    said = reward(url, CHAT | {"responses": [REPLY]})
    templated = {"prompt": HEAD, "responses": [REPLY + "<|im_end|>\n"]}
    assert asked(url, templated).warnings == []
    assert asked(url, templated).results[0].responses[0].base_reward == pytest.approx(
        by_transformers(HEAD + REPLY + "<|im_end|>\n"), abs=1e-5
    )
    bare = {"prompt": "Is it good?", "templated": True, "responses": [REPLY]}
    assert abs(reward(url, bare) - said) > 0.1
    mixed = {"prompt": OTHER + HEAD, "responses": [REPLY]}
    assert [each.type for each in asked(url, mixed).warnings] == ["foreign_template"]


def test_templated_goes_with_a_prompt(url: str) -> None:
    response = score(url, {"items": [CHAT | {"templated": True, "responses": [REPLY]}]})
    assert "'templated' goes with 'prompt'" in error_of(response).message


def with_template(template: str | None) -> Any:
    """An app whose model has this template."""
    return tiny_app(lambda metrics: load_tiny(metrics, template=template))


def test_a_model_without_a_template_takes_plain_text_and_warns_of_marks_it_does_not_know() -> None:
    with running(with_template(None)) as url:
        plain = asked(url, {"prompt": "Is it good?", "responses": [REPLY]})
        assert plain.warnings == []
        marked = asked(url, {"prompt": OTHER, "responses": [REPLY]})
        assert [each.type for each in marked.warnings] == ["foreign_template"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/slime", {"prompt": OTHER, "response": REPLY}),
        ("/score", {"text_1": OTHER, "text_2": [REPLY]}),
        ("/rerank", {"query": OTHER, "documents": [REPLY]}),
        ("/get_reward", {"prompts": [OTHER], "responses": [REPLY]}),
        ("/get_reward", {"query": [OTHER + REPLY], "prompts": [OTHER]}),
        ("/classify", {"input": OTHER + REPLY}),
        ("/classify", {"input": REPLY}),
    ],
)
def test_a_policys_other_template_is_refused_and_a_users_words_are_not(
    url: str, path: str, body: dict[str, Any]
) -> None:
    response = httpx2.post(url + path, json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert "--turn-marker" in error["message"]
    assert error["item"] == 0
    plain = json.loads(json.dumps(body).replace(OTHER, "Is it good?"))
    if path != "/classify":
        assert httpx2.post(url + path, json=plain).status_code == 200


# -- responses without a token


@pytest.mark.parametrize("empty", ["", "<|im_end|>", " <|im_end|></s>"])
def test_an_empty_turn_has_a_reward_where_it_is_asked_for(url: str, empty: str) -> None:
    expected = by_transformers(HEAD + "<|im_end|>\n")
    if not empty:
        item = CHAT | {"responses": [REPLY, empty]}
        assert error_of(score(url, {"items": [item]})).type == "empty_response"
        answer = asked(url, item, empty_response="score")
        one = answer.results[0].responses[1]
        assert one.base_reward == one.reward == pytest.approx(expected, abs=1e-5)
        assert (one.penalty, one.probes["sycophancy"].bounded) == (0.0, 0.0)
        warning = answer.warnings[0]
        assert (warning.type, warning.item, warning.response) == ("empty_response", 0, 1)
        other = answer.results[0].responses[0]
        assert other.penalty != 0.0  # the control
        assert other.reward == pytest.approx(reward(url, CHAT | {"responses": [REPLY]}), abs=1e-5)
    told = httpx2.post(f"{url}/slime", json={"prompt": CHAT["messages"], "response": empty})
    if empty.startswith(" "):  # this template keeps white space, so there is a token
        assert "x-candor-warnings" not in told.headers
        return
    assert told.json() == pytest.approx(expected, abs=1e-5)
    assert "empty_response" in told.headers["x-candor-warnings"]


def test_one_empty_completion_does_not_end_a_batch_unless_the_server_is_told_so(url: str) -> None:
    body = {"query": [HEAD + REPLY, HEAD + "<|im_end|>"], "prompts": [HEAD, HEAD]}
    answer = httpx2.post(f"{url}/get_reward", json=body).json()
    assert answer["rewards"][1] == pytest.approx(by_transformers(HEAD + "<|im_end|>\n"), abs=1e-5)
    assert answer["extra_logs"]["penalty"][1] == 0.0
    assert answer["extra_logs"]["penalty"][0] != 0.0
    assert metric(url, 'candor_warnings_total{type="empty_response"}') >= 1
    with running(tiny_app(trainers=TrainerRoutes(empty_response="error"))) as strict:
        refused = httpx2.post(f"{strict}/get_reward", json=body)
    assert refused.status_code == 422
    assert refused.json()["error"]["item"] == 1


def test_an_empty_turn_is_not_flagged_by_the_closed_form(url: str) -> None:
    item = CHAT | {"responses": [REPLY, "The sea is blue.", ""]}
    closed = {"sycophancy": {"closed_form": {"beta": 1.0, "threshold": -100.0}}}
    answer = asked(url, item, penalties=closed, empty_response="score")
    flagged = [each.probes["sycophancy"].bounded for each in answer.results[0].responses]
    assert flagged == [1.0, 1.0, 0.0]


# -- messages with more than a text


CALL = {"id": "c1", "type": "function", "function": {"name": "sea", "arguments": {"at": "noon"}}}
TOOL = {"type": "function", "function": {"name": "sea", "parameters": {"type": "object"}}}
AGENT = [
    *CHAT["messages"],
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": [{"type": "text", "text": "blue"}], "tool_call_id": "c1"},
]


def test_an_agents_conversation_gets_the_number_of_its_rendered_text() -> None:
    tokenizer = tiny_tokenizer(template=TOOLS)
    reply = {"role": "assistant", "content": REPLY}
    text = str(tokenizer.apply_chat_template([*AGENT, reply], tools=[TOOL], tokenize=False))
    expected = by_transformers(text)
    with running(with_template(TOOLS)) as url:
        item = {"messages": AGENT, "tools": [TOOL], "responses": [REPLY]}
        scored = asked(url, item)
        assert scored.results[0].responses[0].base_reward == pytest.approx(expected, abs=1e-5)
        assert scored.warnings == []
        called = asked(url, CHAT | {"responses": [AGENT[1]]}).results[0].responses[0]
        text = str(tokenizer.apply_chat_template(AGENT[:2], tokenize=False))
        assert called.base_reward == pytest.approx(by_transformers(text), abs=1e-5)
        body = {"messages": [*AGENT, reply], "tools": [TOOL]}
        classified = httpx2.post(f"{url}/classify", json=body).json()["data"][0]["probs"][0]
        assert classified == pytest.approx(scored.results[0].responses[0].reward, abs=1e-5)
        without = httpx2.post(f"{url}/classify", json=body | {"tools": None}).json()
        assert abs(without["data"][0]["probs"][0] - classified) > 1e-3
        slime = httpx2.post(f"{url}/slime", json={"prompt": AGENT, "response": REPLY})
        assert slime.json() == pytest.approx(without["data"][0]["probs"][0], abs=1e-5)


def test_what_a_template_omits_is_said_in_the_answer_and_in_a_header() -> None:
    system = {"role": "system", "content": "Be kind."}
    with running(with_template(TWO_ROLES)) as url:
        item = {"messages": [system, *CHAT["messages"]], "responses": [REPLY]}
        (warning,) = asked(url, item).warnings
        assert warning.type == "template_omits"
        assert "the system's message" in warning.message
        body = {"prompt": item["messages"], "response": REPLY}
        headers = httpx2.post(f"{url}/slime", json=body).headers
        assert "the system's message" in headers["x-candor-warnings"]
        assert (
            "x-candor-warnings"
            not in httpx2.post(f"{url}/slime", json=body | {"prompt": CHAT["messages"]}).headers
        )
