"""`include: ["text"]`: the templated text, its tokens, and what was cut."""

from __future__ import annotations

from typing import Any

import httpx2

from candor.client.schema import RewardResponse
from tests.service.serving import score
from tests.tiny import tiny_tokenizer

MESSAGES = [{"role": "user", "content": "What do you think \U0001f30a?"}]


def read(url: str, item: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    answer = score(url, {"items": [item], "include": ["text", "tokens"], **more})
    assert answer.status_code == 200, answer.text
    RewardResponse.model_validate_json(answer.content)
    responses: list[dict[str, Any]] = answer.json()["results"][0]["responses"]
    return responses


def test_it_is_what_the_template_writes_and_its_tokens(url: str) -> None:
    responses = ["It is good \U0001f30a.", "no"]
    tokenizer = tiny_tokenizer()
    for text, found in zip(
        responses, read(url, {"messages": MESSAGES, "responses": responses}), strict=True
    ):
        told = found["text"]
        whole = tokenizer.apply_chat_template(
            [*MESSAGES, {"role": "assistant", "content": text}], tokenize=False
        )
        assert told["text"] == whole
        assert told["text"][told["start"] : told["end"]] == text
        assert told["token_ids"] == tokenizer(whole, add_special_tokens=False)["input_ids"]
        assert len(told["token_ids"]) == found["num_tokens"] == len(told["offsets"])
        assert told["num_response_tokens"] == len(found["tokens"])
        assert told["dropped"] is None
        inside = [
            (low - told["start"], high - told["start"])
            for low, high in told["offsets"]
            if low < told["end"] and high > told["start"]
        ]
        assert inside == [(one["start"], one["end"]) for one in found["tokens"]]


def test_what_was_cut_is_named_by_its_characters(url: str) -> None:
    for words in (80, 2000):  # tokens are dropped, and characters before that
        message = {"role": "user", "content": "first " + "abcde " * words + "last"}
        item = {"messages": [message], "responses": ["It is good."]}
        (found,) = read(url, item, truncation="left")
        told = found["text"]
        assert found["truncated"]
        begin, end = told["dropped"]
        assert begin == 0
        assert told["text"][told["offsets"][0][0] :] == told["text"][end:]
        assert "first" in told["text"][:end]
        assert "last" in told["text"][end:]
        assert len(told["token_ids"]) == 256
        ids = tiny_tokenizer()(told["text"], add_special_tokens=False)["input_ids"]
        assert told["token_ids"] == ids[-256:]


def test_an_empty_turn_has_its_text(url: str) -> None:
    (found,) = read(url, {"messages": MESSAGES, "responses": [""]}, empty_response="score")
    told = found["text"]
    assert (told["start"], told["num_response_tokens"]) == (told["end"], 0)
    assert told["text"].endswith("<|im_start|>assistant\n<|im_end|>\n")


def test_it_is_not_there_unless_asked_for(url: str) -> None:
    body = {"items": [{"messages": MESSAGES, "responses": ["a"]}]}
    assert "text" not in score(url, body).json()["results"][0]["responses"][0]
    wrong = httpx2.post(f"{url}/v1/rewards", json={**body, "include": ["texts"]})
    assert wrong.status_code == 400
