"""Bad bodies over a real port: a short error names the fault, and the server goes on."""

from __future__ import annotations

import json

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service.serving import BODY, error_of, metric, one, score, send_bytes

GOOD_ITEM = b'{"prompt":"p","templated":true,"responses":["a"]}'
BAD: dict[str, tuple[bytes, int, str]] = {
    "empty body": (b"", 400, "JSON"),
    "not JSON": (b"{", 400, "JSON"),
    "not an object": (b"[]", 400, "must be an object"),
    "null": (b"null", 400, "must be an object"),
    "not UTF-8": (b'{"items":[{"prompt":"\xff","templated":true,"responses":["a"]}]}', 400, "JSON"),
    "no items": (b"{}", 400, "items: is required"),
    "empty items": (b'{"items":[]}', 400, "items:"),
    "items is text": (b'{"items":"a"}', 400, "items: must be a valid array"),
    "empty responses": (
        b'{"items":[{"prompt":"p","templated":true,"responses":[]}]}',
        400,
        "items[0].responses",
    ),
    "response is a number": (
        b'{"items":[' + GOOD_ITEM + b',{"prompt":"p","templated":true,"responses":["a",7]}]}',
        400,
        "items[1].responses[1]: must be a text, or an assistant's message",
    ),
    "empty response": (
        b'{"items":[{"prompt":"p","templated":true,"responses":[""]}]}',
        422,
        "empty",
    ),
    "unknown role": (
        b'{"items":[{"messages":[{"role":"root","content":"x"}],"responses":["a"]}]}',
        400,
        "items[0].messages[0].role",
    ),
    "content parts": (
        b'{"items":[{"messages":[{"role":"user","content":[]}],"responses":["a"]}]}',
        400,
        "items[0].messages[0].content: must have at least one part",
    ),
    "no context": (b'{"items":[{"responses":["a"]}]}', 400, "exactly one of"),
    "two contexts": (
        b'{"items":[{"prompt":"p","messages":[{"role":"user","content":"x"}],"responses":["a"]}]}',
        400,
        "exactly one of",
    ),
    "lone surrogate": (
        b'{"items":[{"prompt":"p","templated":true,"responses":["\\ud800"]}]}',
        400,
        "JSON",
    ),
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
        b'{"items":[{"prompt":"p","templated":true,"responses":['
        + b",".join([b'"a"'] * 10_000)
        + b"]}]}",
        400,
        "items[0].responses",
    ),
    "20,000 responses in 5 items": (
        b'{"items":['
        + b",".join(
            [b'{"prompt":"p","templated":true,"responses":[' + b",".join([b'"a"'] * 4000) + b"]}"]
            * 5
        )
        + b"]}",
        400,
        "20000 responses",
    ),
    "over-long": (
        json.dumps(one("word " * 5000)).encode(),
        422,
        "the limit is 8192",
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
    body = {
        "items": [BODY["items"][0], {"prompt": "p", "templated": True, "responses": ["a", "b", ""]}]
    }
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
        b'{"items":[{"prompt":"p","templated":true,"responses":['
        + b",".join([b"1"] * 1_000_000)
        + b"]}]}",
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
        b'{"items":[{"prompt":"p","templated":true,"responses":["a"]}],"truncation":"'
        + b"x" * 2_000_000
        + b'"}',
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
