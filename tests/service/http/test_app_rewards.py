"""Rewards over a real port: right in any order, with either engine, and in a burst."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from candor.client.schema import RewardResponse
from tests.service.serving import BODY, LAMBDA, load_tiny, one, running, score, tiny_app


def test_the_answer_is_a_reward_response_with_a_result_for_every_response(url: str) -> None:
    response = score(url)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    answer = RewardResponse.model_validate_json(response.content, strict=True)
    assert [len(result.responses) for result in answer.results] == [3, 1]
    assert [result.index for result in answer.results] == [0, 1]
    assert answer.model.formula == "R - lambda*clip(S)"
    assert answer.results[0].responses[0].tokens is None


def test_the_reward_is_base_reward_minus_penalty_to_the_bit_after_json(url: str) -> None:
    for result in score(url).json()["results"]:
        for scored in result["responses"]:
            reading = scored["probes"]["sycophancy"]
            assert scored["reward"] == scored["base_reward"] - scored["penalty"]
            assert scored["penalty"] == LAMBDA * reading["bounded"]
            assert reading["bounded"] == min(max(reading["score"], -3.0), 3.0)
        rewards = [scored["reward"] for scored in result["responses"]]
        assert result["best"] == rewards.index(max(rewards))


def test_lambda_zero_is_the_base_reward_to_the_bit_and_another_lambda_is_not(url: str) -> None:
    off = score(url, BODY | {"penalties": {"sycophancy": {"lambda": 0}}}).json()
    for result in off["results"]:
        assert all(
            scored["reward"] == scored["base_reward"] and scored["penalty"] == 0
            for scored in result["responses"]
        )
    assert off["model"]["formula"] == "R"
    on = score(url, BODY | {"penalties": {"sycophancy": {"lambda": 2}}}).json()
    scored = on["results"][0]["responses"][0]
    assert scored["reward"] != scored["base_reward"]
    assert scored["probes"]["sycophancy"]["lambda"] == 2


def test_kappa_becomes_lambda_through_the_card(url: str) -> None:
    answer = score(url, BODY | {"penalties": {"length": {"kappa": 0.5}}}).json()
    # std_R 2.0 and std_bounded_S 0.25 on the card.
    assert answer["results"][0]["responses"][0]["probes"]["length"]["lambda"] == 4.0


def test_tokens_cut_the_response_into_pieces_with_a_logit_from_each_probe(url: str) -> None:
    answer = score(url, BODY | {"include": ["tokens"]}).json()
    for item, result in zip(BODY["items"], answer["results"], strict=True):
        for text, scored in zip(item["responses"], result["responses"], strict=True):
            assert all(
                token["text"] == text[token["start"] : token["end"]]
                and token["probes"].keys() == {"sycophancy", "length"}
                for token in scored["tokens"]
            )
            logits = [token["probes"]["sycophancy"] for token in scored["tokens"]]
            assert max(logits) == scored["probes"]["sycophancy"]["max"]
            assert scored["tokens"][0]["start"] == 0
            assert scored["tokens"][-1]["end"] == len(text)


def test_the_same_texts_get_the_same_rewards_twice_and_whatever_their_order(url: str) -> None:
    first = score(url).json()["results"]
    assert score(url).json()["results"] == first
    turned = score(url, {"items": BODY["items"][::-1]}).json()["results"]
    for result, again in zip(first, turned[::-1], strict=True):
        for scored, other in zip(result["responses"], again["responses"], strict=True):
            assert scored["reward"] == pytest.approx(other["reward"], abs=1e-4)


def test_usage_counts_every_token_of_every_response(url: str) -> None:
    answer = score(url).json()
    scored = [scored for result in answer["results"] for scored in result["responses"]]
    usage = answer["usage"]
    assert answer["model"]["engine"] == "packed"
    assert usage["num_tokens"] == sum(one["num_tokens"] for one in scored)
    # Three responses share the rendered question, which is computed once instead of three times.
    assert usage["num_shared_tokens"] > 0
    assert usage["num_computed_tokens"] + usage["num_shared_tokens"] == usage["num_tokens"]


def test_the_padded_engine_shares_nothing_and_gives_the_same_rewards(url: str) -> None:
    with running(tiny_app(lambda metrics: load_tiny(metrics, engine="padded"))) as padded:
        answer = score(padded).json()
    assert answer["model"]["engine"] == "padded"
    assert answer["usage"]["num_computed_tokens"] >= answer["usage"]["num_tokens"]
    assert answer["usage"]["num_shared_tokens"] == 0
    packed = score(url).json()
    for result, again in zip(answer["results"], packed["results"], strict=True):
        for scored, other in zip(result["responses"], again["responses"], strict=True):
            assert scored["reward"] == pytest.approx(other["reward"], abs=1e-4)


def test_a_burst_of_single_items_is_answered_in_full(url: str) -> None:
    alone = [score(url, one(f"answer {number}")).json() for number in range(8)]
    answers: dict[int, Any] = {}

    def post(number: int) -> None:
        answers[number] = score(url, one(f"answer {number % 8}"), timeout=60).json()

    threads = [threading.Thread(target=post, args=(number,)) for number in range(48)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 60
    for number, answer in answers.items():
        scored = answer["results"][0]["responses"][0]
        expected = alone[number % 8]["results"][0]["responses"][0]
        assert scored["reward"] == pytest.approx(expected["reward"], abs=1e-4)
    assert len(answers) == 48
