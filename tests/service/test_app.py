"""The API over a real port: right numbers, named errors, nothing leaked."""

from __future__ import annotations

import json
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service import VERSION, errors, openapi
from service.batch import Item
from service.compose import ServedProbe
from service.errors import CandorError
from service.health import Health
from service.metrics import Metrics
from service.rewarder import Rewarder
from service.routes import route_table
from service.schema import ErrorEnvelope, RewardResponse
from tests.service.serving import (
    BODY,
    LAMBDA,
    load_tiny,
    metric,
    running,
    score,
    send_bytes,
    tiny_app,
    tiny_probes,
    wait_for,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(tiny_app()) as url:
        yield url


def error_of(response: httpx2.Response) -> Any:
    assert len(response.content) <= 4096
    return ErrorEnvelope.model_validate_json(response.content).error


def one(response: str = "a", **fields: Any) -> dict[str, Any]:
    return {"items": [{"prompt": "p", "responses": [response]}], **fields}


# -- right numbers


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
    # std_R 2.0 and std_S 0.5 on the card.
    assert answer["results"][0]["responses"][0]["probes"]["length"]["lambda"] == 2.0


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
    # Three responses share the rendered question: computed once in place of three times.
    assert usage["num_shared_tokens"] > 0
    assert usage["num_computed_tokens"] + usage["num_shared_tokens"] == usage["num_tokens"]


def test_the_padded_engine_shares_nothing_and_gives_the_same_rewards(url: str) -> None:
    with running(tiny_app(lambda metrics: load_tiny(metrics, engine_name="padded"))) as padded:
        answer = score(padded).json()
    assert answer["model"]["engine"] == "padded"
    assert answer["usage"]["num_computed_tokens"] >= answer["usage"]["num_tokens"]
    assert answer["usage"]["num_shared_tokens"] == 0
    packed = score(url).json()
    for result, again in zip(answer["results"], packed["results"], strict=True):
        for scored, other in zip(result["responses"], again["responses"], strict=True):
            assert scored["reward"] == pytest.approx(other["reward"], abs=1e-4)


# -- monitors


def test_a_monitor_is_measured_and_never_shown_to_whoever_asks_for_rewards(url: str) -> None:
    before = metric(url, 'candor_probe_score_count{probe="unseen"}')
    answers = {
        "rewards": score(url, BODY | {"include": ["tokens"]}),
        "closed form": score(
            url, BODY | {"penalties": {"sycophancy": {"closed_form": {"beta": 1}}}}
        ),
        "models": httpx2.get(f"{url}/v1/models"),
        "probes": httpx2.get(f"{url}/v1/probes"),
        "openapi": httpx2.get(f"{url}/openapi.json"),
        "ready": httpx2.get(f"{url}/readyz"),
        "version": httpx2.get(f"{url}/version"),
        "bad body": send_bytes(url, b"{"),
        "bad text": score(url, one("")),
        "bad probe": score(url, one(penalties={"nonsense": {"lambda": 1}})),
        "no route": httpx2.get(f"{url}/nothing"),
    }
    assert [name for name, answer in answers.items() if "unseen" in answer.text] == []
    assert "sycophancy" in answers["rewards"].text  # the control
    assert "sycophancy" in answers["probes"].text
    assert "sycophancy" in answers["bad probe"].text
    assert metric(url, 'candor_probe_score_count{probe="unseen"}') == before + 8
    assert "score.unseen" in httpx2.get(f"{url}/v1/drift").text


def numbers_in(value: Any) -> Iterator[float]:
    """Every number in a JSON value."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(inner)
    elif isinstance(value, float):
        yield value


def test_no_number_of_a_monitor_is_in_an_answer_and_it_moves_no_reward(url: str) -> None:
    """The same requests to a server where the monitor is an ordinary probe tell its numbers."""
    shown = tiny_probes()
    shown["unseen"] = ServedProbe(shown["unseen"].loaded, 0.0)
    with running(tiny_app(lambda metrics: load_tiny(metrics, served=shown))) as other:
        told = score(other, BODY | {"include": ["tokens"]}).json()["results"]
    with running(
        tiny_app(lambda metrics: load_tiny(metrics, served=tiny_probes(monitor=False)))
    ) as other:
        without = score(other, BODY | {"include": ["tokens"]}).json()["results"]
    hidden = {
        number
        for result in told
        for scored in result["responses"]
        for number in numbers_in(
            [scored["probes"]["unseen"], [token["probes"]["unseen"] for token in scored["tokens"]]]
        )
        if number != 0
    }
    answer = score(url, BODY | {"include": ["tokens"]}).json()["results"]
    assert len(hidden) > 20
    assert hidden <= set(numbers_in(told))  # the control
    assert not hidden & set(numbers_in(answer))
    for result, again in zip(answer, without, strict=True):
        for scored, other in zip(result["responses"], again["responses"], strict=True):
            assert scored["base_reward"] == other["base_reward"]
            # Rounding: a monitor is one more column in its layer's product.
            assert scored["reward"] == pytest.approx(other["reward"], abs=1e-5)
            assert scored["probes"].keys() == other["probes"].keys()


def test_a_monitor_cannot_be_told_from_a_probe_that_does_not_exist(url: str) -> None:
    answers = [
        error_of(score(url, BODY | {"penalties": {name: {"lambda": 1}}}))
        for name in ("unseen", "nonsense")
    ]
    assert [answer.type for answer in answers] == ["unknown_probe"] * 2
    assert answers[0].message == answers[1].message


# -- errors


def subclasses(kind: type[CandorError]) -> Iterator[type[CandorError]]:
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from subclasses(child)


@pytest.mark.parametrize("kind", list(subclasses(CandorError)), ids=lambda kind: kind.__name__)
def test_every_named_failure_is_answered_with_its_status_and_type(
    kind: type[CandorError], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> bytes:
        raise kind("a reason", item=1, response=2)

    monkeypatch.setattr(Rewarder, "score", fail)
    with running(tiny_app()) as url:
        response = score(url)
        assert response.status_code == kind.status
        error = error_of(response)
        assert (error.type, error.message, error.item, error.response) == (
            kind.type,
            "a reason",
            1,
            2,
        )
        assert error.retryable == kind.retryable
        assert error.request_id == response.headers["x-request-id"]
        assert ("retry-after" in response.headers) == (kind.status == 503)
        assert metric(url, f'candor_errors_total{{type="{kind.type}"}}') == 1


def test_a_bug_is_a_500_with_the_request_id_and_no_word_of_what_happened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object) -> bytes:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Rewarder, "score", fail)
    with running(tiny_app()) as url:
        response = score(url, headers={"x-request-id": "abc-1"})
        assert response.status_code == 500
        assert "secret" not in response.text
        assert error_of(response).type == "internal_error"
        assert error_of(response).request_id == "abc-1"
        monkeypatch.undo()
        assert score(url).status_code == 200


GOOD_ITEM = b'{"prompt":"p","responses":["a"]}'
BAD: dict[str, tuple[bytes, int, str]] = {
    "empty body": (b"", 400, "JSON"),
    "not JSON": (b"{", 400, "JSON"),
    "not an object": (b"[]", 400, "must be an object"),
    "null": (b"null", 400, "must be an object"),
    "not UTF-8": (b'{"items":[{"prompt":"\xff","responses":["a"]}]}', 400, "JSON"),
    "no items": (b"{}", 400, "items: is required"),
    "empty items": (b'{"items":[]}', 400, "items:"),
    "items is text": (b'{"items":"a"}', 400, "items: must be a valid array"),
    "empty responses": (b'{"items":[{"prompt":"p","responses":[]}]}', 400, "items[0].responses"),
    "response is a number": (
        b'{"items":[' + GOOD_ITEM + b',{"prompt":"p","responses":["a",7]}]}',
        400,
        "items[1].responses[1]: must be a valid string",
    ),
    "empty response": (b'{"items":[{"prompt":"p","responses":[""]}]}', 422, "empty"),
    "unknown role": (
        b'{"items":[{"messages":[{"role":"root","content":"x"}],"responses":["a"]}]}',
        400,
        "items[0].messages[0].role",
    ),
    "content parts": (
        b'{"items":[{"messages":[{"role":"user","content":[]}],"responses":["a"]}]}',
        400,
        "items[0].messages[0].content: must be a valid string",
    ),
    "no context": (b'{"items":[{"responses":["a"]}]}', 400, "exactly one of"),
    "two contexts": (
        b'{"items":[{"prompt":"p","messages":[{"role":"user","content":"x"}],"responses":["a"]}]}',
        400,
        "exactly one of",
    ),
    "lone surrogate": (b'{"items":[{"prompt":"p","responses":["\\ud800"]}]}', 400, "JSON"),
    "unknown field": (b'{"items":[' + GOOD_ITEM + b'],"penaltys":{}}', 400, "penaltys: unknown"),
    "unknown probe": (
        b'{"items":[' + GOOD_ITEM + b'],"penalties":{"x":{"lambda":1}}}',
        400,
        "not served",
    ),
    "both strengths": (
        b'{"items":[' + GOOD_ITEM + b'],"penalties":{"sycophancy":{"lambda":1,"kappa":1}}}',
        400,
        "exactly one of",
    ),
    "too many penalties": (
        b'{"items":['
        + GOOD_ITEM
        + b'],"penalties":{'
        + b",".join(b'"%d":{"lambda":1}' % number for number in range(65))
        + b"}}",
        400,
        "at most 64",
    ),
    "unknown include": (b'{"items":[' + GOOD_ITEM + b'],"include":["logits"]}', 400, "include[0]"),
    "deep nesting": (b'{"items":' + b"[" * 5000, 400, "JSON"),
    "10,000 responses": (
        b'{"items":[{"prompt":"p","responses":[' + b",".join([b'"a"'] * 10_000) + b"]}]}",
        400,
        "items[0].responses",
    ),
    "20,000 responses in 5 items": (
        b'{"items":['
        + b",".join([b'{"prompt":"p","responses":[' + b",".join([b'"a"'] * 4000) + b"]}"] * 5)
        + b"]}",
        400,
        "20000 responses",
    ),
    "over-long": (
        json.dumps(one("word " * 5000)).encode(),
        422,
        "the model takes 256",
    ),
    "far over-long": (json.dumps(one("a" * 1_000_000)).encode(), 422, ""),
}
for _name, _value in {
    "negative": b"-1",
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "1e999": b"1e999",
    "text": b'"1"',
    "true": b"true",
}.items():
    BAD[f"lambda {_name}"] = (
        b'{"items":[' + GOOD_ITEM + b'],"penalties":{"sycophancy":{"lambda":' + _value + b"}}}",
        400,
        "penalties.sycophancy.lambda",
    )


@pytest.mark.parametrize("name", BAD)
def test_a_bad_body_is_refused_by_name_and_the_next_good_one_is_answered(
    name: str, url: str
) -> None:
    body, status, words = BAD[name]
    response = send_bytes(url, body)
    assert response.status_code == status, response.text
    error = error_of(response)
    assert words in error.message
    assert not error.retryable
    assert score(url).status_code == 200


def test_the_item_and_the_response_to_blame_are_given(url: str) -> None:
    shape = error_of(send_bytes(url, BAD["response is a number"][0]))
    assert (shape.item, shape.response) == (1, 1)
    body = {"items": [BODY["items"][0], {"prompt": "p", "responses": ["a", "b", ""]}]}
    text = error_of(score(url, body))
    assert (text.type, text.item, text.response) == ("empty_response", 1, 2)


def test_a_penalty_that_overflows_is_refused_and_never_null(url: str) -> None:
    response = score(url, BODY | {"penalties": {"sycophancy": {"lambda": 1.7e308}}})
    assert response.status_code in {200, 422}
    assert "null" not in response.text.replace('"response":null', "").replace('"item":null', "")
    if response.status_code == 422:
        assert error_of(response).type == "non_finite_score"


@pytest.mark.parametrize(
    "body",
    [
        b'{"items":[' + b",".join([b"1"] * 1_000_000) + b"]}",
        b'{"items":[{"prompt":"p","responses":[' + b",".join([b"1"] * 1_000_000) + b"]}]}",
        b'{"items":['
        + GOOD_ITEM
        + b"],"
        + b",".join(b'"%d":1' % number for number in range(200_000))
        + b"}",
        b'{"items":['
        + GOOD_ITEM
        + b'],"penalties":{'
        + b",".join(b'"%d":1' % number for number in range(200_000))
        + b"}}",
        b'{"items":[' + GOOD_ITEM + b'],"' + b"x" * 2_000_000 + b'":1}',
        b'{"items":[{"prompt":"p","responses":["a"]}],"truncation":"' + b"x" * 2_000_000 + b'"}',
    ],
    ids=["items", "responses", "fields", "penalties", "long name", "long value"],
)
def test_two_megabytes_of_faults_get_a_small_answer(url: str, body: bytes) -> None:
    response = send_bytes(url, body)
    assert response.status_code == 400
    assert len(response.content) <= 4096
    assert "xxxx" not in response.text
    assert score(url).status_code == 200


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_bytes_at_all_make_a_server_error(url: str, data: st.DataObject) -> None:
    text = json.dumps(BODY).encode()
    body = data.draw(
        st.one_of(
            st.binary(max_size=200),
            st.builds(
                lambda start, length, put: text[:start] + put + text[start + length :],
                st.integers(0, len(text)),
                st.integers(0, 20),
                st.sampled_from(
                    [
                        b"",
                        b"NaN",
                        b"\\ud800",
                        b"1e999",
                        b"null",
                        b"[",
                        b'"',
                        b"{}",
                        b"\x00",
                        b"\xff",
                    ]
                ),
            ),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(
                        st.sampled_from(["items", "prompt", "responses", "messages", "penalties"]),
                        inner,
                        max_size=3,
                    )
                ),
                max_leaves=8,
            ).map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
        )
    )
    response = send_bytes(url, body)
    assert response.status_code < 500, (body, response.text)
    if response.status_code != 200:
        error_of(response)


def test_after_all_that_the_server_is_ready_and_its_queue_is_empty(url: str) -> None:
    assert httpx2.get(f"{url}/readyz").json() == {"status": "ready", "reason": None}
    assert metric(url, "candor_queue_items") == 0
    assert metric(url, "candor_queue_tokens") == 0


# -- the engine's own failures


def test_an_item_that_the_engine_cannot_score_fails_alone() -> None:
    def before(items: Sequence[Item]) -> None:
        # "poison" below has 33 response tokens; nothing else here has, the sentinel included.
        if any(item.response_end - item.response_start == 33 for item in items):
            raise MemoryError("no more")

    with running(tiny_app(lambda metrics: load_tiny(metrics, before=before))) as url:
        results: dict[str, httpx2.Response] = {}

        def post(name: str, response: str) -> None:
            results[name] = score(url, one(response), timeout=30)

        threads = [
            threading.Thread(target=post, args=(name, text))
            for name, text in [("good", "zz"), ("poison", "z" * 33), ("other", "zzzz")]
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results["good"].status_code == results["other"].status_code == 200
        assert results["poison"].status_code == 500
        error = error_of(results["poison"])
        assert (error.type, error.item, error.response) == ("engine_failed", 0, 0)


def test_a_full_queue_is_503_with_whole_seconds_to_wait() -> None:
    held = threading.Event()
    started = threading.Event()

    def before(items: Sequence[Item]) -> None:
        if any(item.response_end - item.response_start == 33 for item in items):
            started.set()
            held.wait(30)

    def load(metrics: Metrics) -> Rewarder:
        return load_tiny(metrics, before=before, max_queue_tokens=60)

    with running(tiny_app(load)) as url:
        waiting = [
            threading.Thread(target=lambda: score(url, one("z" * 33), timeout=60)),
            threading.Thread(target=lambda: score(url, one("z" * 40), timeout=60)),
        ]
        waiting[0].start()
        assert started.wait(20)
        waiting[1].start()
        try:
            wait_for(lambda: metric(url, "candor_queue_items") == 1)
            response = score(url, one("z" * 40))
            assert response.status_code == 503
            assert error_of(response).type == "overloaded"
            assert int(response.headers["retry-after"]) >= 1
            assert httpx2.get(f"{url}/livez").status_code == 200
            # There is room for this one, but the model is not free: answered at its deadline.
            late = score(url, one("zz"), headers={"x-request-timeout": "0.2"}, timeout=10)
            assert late.status_code == 503
            assert error_of(late).type == "deadline_exceeded"
        finally:
            held.set()
            for thread in waiting:
                thread.join()
        assert metric(url, 'candor_refused_total{type="overloaded"}') >= 1


def test_a_caller_who_hangs_up_is_not_scored() -> None:
    held, started = threading.Event(), threading.Event()
    seen: list[int] = []

    def before(items: Sequence[Item]) -> None:
        lengths = [item.response_end - item.response_start for item in items]
        seen.extend(lengths)
        if 33 in lengths:
            started.set()
            held.wait(30)

    with running(tiny_app(lambda metrics: load_tiny(metrics, before=before))) as url:
        first = threading.Thread(target=lambda: score(url, one("z" * 33), timeout=60))
        first.start()
        assert started.wait(20)
        with pytest.raises(httpx2.ReadTimeout):
            score(url, one("z" * 37), timeout=0.5)
        try:
            wait_for(lambda: metric(url, "candor_gone_items_total") == 1)
        finally:
            held.set()
            first.join()
        assert score(url, one("z" * 39)).status_code == 200
        assert {33, 39} <= set(seen)
        assert 37 not in seen
        assert metric(url, 'candor_requests_total{route="/v1/rewards",status="499"}') == 1


# -- the other routes


def test_while_the_model_loads_the_server_lives_and_is_not_ready() -> None:
    held = threading.Event()

    def load(metrics: Metrics) -> Rewarder:
        held.wait(30)
        return load_tiny(metrics)

    app = tiny_app(load)
    with running(app, ready=False) as url:
        try:
            assert httpx2.get(f"{url}/livez").status_code == 200
            ready = httpx2.get(f"{url}/readyz")
            assert (ready.status_code, ready.json()["status"]) == (503, "loading")
            for response in (score(url), httpx2.get(f"{url}/v1/models")):
                assert response.status_code == 503
                assert error_of(response).type == "not_ready"
                assert int(response.headers["retry-after"]) >= 1
            assert metric(url, "candor_ready") == 0
        finally:
            held.set()
        wait_for(lambda: httpx2.get(f"{url}/readyz").status_code == 200)
        assert score(url).status_code == 200
        assert metric(url, "candor_ready") == 1


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/ready", "/health", "/v1/models"])
def test_a_trailing_slash_is_answered_without_a_redirect(url: str, path: str) -> None:
    assert httpx2.get(f"{url}{path}/").status_code == 200
    assert httpx2.get(f"{url}{path}").status_code == 200


def test_a_post_with_a_trailing_slash_is_scored(url: str) -> None:
    assert httpx2.post(f"{url}/v1/rewards/", json=BODY).status_code == 200


def test_an_unknown_route_is_404_and_lists_the_routes(url: str) -> None:
    response = httpx2.get(f"{url}/get_rewards")
    assert response.status_code == 404
    assert error_of(response).type == "not_found"
    assert "POST /v1/rewards" in error_of(response).message


def test_the_wrong_method_is_405_and_says_the_right_one(url: str) -> None:
    response = httpx2.get(f"{url}/v1/rewards")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert error_of(response).type == "method_not_allowed"


def test_models_and_probes_say_what_decides_the_scores(url: str) -> None:
    (model,) = httpx2.get(f"{url}/v1/models").json()["data"]
    assert (model["id"], model["object"], model["dtype"]) == ("tiny", "model", "float32")
    assert (model["max_length"], model["formula"]) == (256, "R - lambda*clip(S)")
    probes = httpx2.get(f"{url}/v1/probes").json()["probes"]
    assert {probe["name"]: probe["lambda"] for probe in probes} == {
        "sycophancy": LAMBDA,
        "length": 0.0,
    }
    assert probes[0]["card"]["trait"] == "the text is sycophancy"


def test_metrics_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_check(_: Health) -> None:
        """The sentinel's texts are counted too, and it comes whenever 30 s are over."""

    monkeypatch.setattr(Health, "check", no_check)
    with running(tiny_app()) as url:
        check_totals(url)


def check_totals(url: str) -> None:
    def totals() -> dict[str, float]:
        return {
            "requests": metric(url, 'candor_requests_total{route="/v1/rewards",status="200"}'),
            "seconds": metric(url, 'candor_request_duration_seconds_count{route="/v1/rewards"}'),
            "sent": metric(url, 'candor_tokens_total{kind="sent"}'),
            "computed": metric(url, 'candor_tokens_total{kind="computed"}'),
            "padding": metric(url, 'candor_tokens_total{kind="padding"}'),
            "rewards": metric(url, "candor_reward_count"),
            "base": metric(url, "candor_base_reward_count"),
            "queue": metric(url, 'candor_stage_duration_seconds_count{stage="queue"}'),
        }

    before = totals()
    usage = score(url).json()["usage"]
    after = totals()
    assert {name: after[name] - before[name] for name in after} == {
        "requests": 1,
        "seconds": 1,
        "sent": usage["num_tokens"],
        "computed": usage["num_computed_tokens"],
        "padding": 0,
        "rewards": 4,
        "base": 4,
        "queue": 4,
    }


def test_unknown_paths_do_not_make_new_metric_labels(url: str) -> None:
    for number in range(3):
        httpx2.get(f"{url}/nothing/{number}")
    text = httpx2.get(f"{url}/metrics").text
    assert "/nothing" not in text
    assert 'candor_requests_total{route="other",status="404"}' in text


def test_every_metric_ends_in_a_unit_or_says_what_it_counts() -> None:
    metrics = Metrics()
    rewarder = load_tiny(metrics)
    assert rewarder.drift is not None
    metrics.watch_drift(rewarder.drift.report)
    rewarder.close()
    metrics.watch_health(Health())
    names = {family.name for family in metrics.registry.collect()}
    ours = {name for name in names if name.startswith("candor_")}
    endings = ("_seconds", "_items", "_tokens", "_reward", "_score", "_ready", "requests", "errors")
    endings += ("_refused", "_status", "_role", "_value")
    drift = {f"candor_drift_{what}" for what in ("psi", "ks", "shift", "mean", "std", "alarm")}
    assert ours > drift
    assert all(name.startswith("process_") for name in names - ours)  # Prometheus' own names
    assert not [name for name in ours - drift if not name.endswith(endings)]


def test_an_error_that_has_not_happened_has_a_sample_so_that_its_first_time_is_an_increase() -> (
    None
):
    text = Metrics().render().decode()
    for kind in subclasses(CandorError):
        assert f'candor_errors_total{{type="{kind.type}"}} 0.0' in text
        assert f'candor_item_errors_total{{type="{kind.type}"}} 0.0' in text
    assert 'candor_errors_total{type="no_such_error"}' not in text


def test_a_mean_can_be_told_from_values_of_both_signs_by_counters_that_only_rise() -> None:
    metrics = Metrics()
    for value in (2.5, -4.0, 0.0):
        metrics.reward.observe(value)
        metrics.probe_score.labels("a").observe(-value)
    text = metrics.render().decode()
    for line in (
        'candor_reward_value_total{sign="positive"} 2.5',
        'candor_reward_value_total{sign="negative"} 4.0',
        'candor_probe_score_value_total{probe="a",sign="positive"} 4.0',
        'candor_probe_score_value_total{probe="a",sign="negative"} 2.5',
        "candor_reward_count 3.0",
        'candor_reward_bucket{le="0.0"} 2.0',
    ):
        assert line in text.splitlines()
    assert "candor_reward_sum" not in text  # why there are two of them


def test_the_status_gauge_says_which_state_it_is_in() -> None:
    metrics, health = Metrics(), Health()
    metrics.watch_health(health)
    health.draining = True
    lines = [line for line in metrics.render().decode().splitlines() if "candor_status{" in line]
    assert 'candor_status{status="draining"} 1.0' in lines
    assert sum(line.endswith(" 0.0") for line in lines) == len(lines) - 1 == 5


# -- the document


def test_the_committed_openapi_document_is_the_live_one() -> None:
    committed = (ROOT / "docs" / "openapi.json").read_bytes()
    assert committed == openapi.document(), "run: make openapi"


def test_the_openapi_document_describes_every_route_and_resolves_every_reference(url: str) -> None:
    document = httpx2.get(f"{url}/openapi.json").json()
    assert document == json.loads(openapi.document())
    described = {
        (method.upper(), path) for path, entry in document["paths"].items() for method in entry
    }
    assert described == set(route_table())
    text = json.dumps(document)
    references = {
        part.split('"', 1)[0] for part in text.split('"$ref": "#/components/schemas/')[1:]
    }
    assert references <= document["components"]["schemas"].keys()
    assert {"RewardRequest", "PenaltyOverride", "ErrorEnvelope"} <= references


def test_the_documents_examples_are_valid() -> None:
    from service.parse import parse

    parse(json.dumps(openapi.REQUEST_EXAMPLE).encode())
    answer = RewardResponse.model_validate(openapi.RESPONSE_EXAMPLE)
    for scored in answer.results[0].responses:
        assert scored.reward == scored.base_reward - scored.penalty
    for kind in openapi.error_responses(400, 401, 404, 408, 413, 415, 422, 500, 503).values():
        ErrorEnvelope.model_validate(kind["content"]["application/json"]["example"])


def test_the_version_is_the_distributions(url: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION == httpx2.get(f"{url}/version").json()["version"]


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
