"""Bodies of the scoring route: which are refused, the message for the first fault, and the parsed
request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from candor.client.schema import MAX_PENALTIES, MAX_RESPONSES, PenaltyOverride
from candor.errors import InvalidRequest
from candor.invalid import MAX_LISTED_FAULTS
from candor.text.request import ChatMessage, Group, Messages, ScoringRequest, Text, parse

GOOD: dict[str, Any] = {
    "items": [
        {"messages": [{"role": "user", "content": "q"}], "responses": ["a", "b"]},
        {"prompt": "p", "templated": True, "responses": ["c"]},
    ],
    "penalties": {"x": {"lambda": 1}, "y": {"kappa": 0.5}},
    "include": ["tokens"],
    "truncation": "left",
}


def parsed(**changes: Any) -> ScoringRequest:
    return parse(json.dumps(GOOD | changes).encode())


def refusal(body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(body if isinstance(body, bytes) else json.dumps(body).encode())
    return caught.value


def test_the_form_in_the_docs_is_read() -> None:
    request = parsed()
    assert request.groups == (
        Group(Messages((ChatMessage("user", "q"),)), ("a", "b")),
        Group(Text("p", is_meant=True), ("c",)),
    )
    assert request.penalties == {
        "x": PenaltyOverride.model_validate({"lambda": 1}),
        "y": PenaltyOverride(kappa=0.5),
    }
    assert (request.want_tokens, request.truncation) == (True, "left")


def test_what_is_left_out_has_its_default() -> None:
    request = parse(b'{"items":[{"prompt":"p","templated":true,"responses":["c"]}]}')
    assert (request.penalties, request.want_tokens, request.truncation) == ({}, False, "error")


@pytest.mark.parametrize(
    ("value", "is_right"),
    [(0, True), (0.0, True), (1, True), (1e300, True), (-1e-9, False), ("1", False), (True, False)],
)
def test_lambda_is_a_number_at_least_zero(value: Any, is_right: bool) -> None:
    body = GOOD | {"penalties": {"x": {"lambda": value}}}
    if is_right:
        assert parse(json.dumps(body).encode()).penalties["x"].lambda_ == value
    else:
        assert "penalties.x.lambda" in str(refusal(body))


def test_a_context_is_messages_or_prompt_and_never_both_or_neither() -> None:
    messages = GOOD["items"][0]["messages"]
    for item in (
        {"responses": ["a"]},
        {"responses": ["a"], "prompt": "p", "messages": messages},
    ):
        error = refusal({"items": [GOOD["items"][0], item]})
        assert str(error) == "items[1]: give exactly one of 'messages' and 'prompt'"
        assert (error.item, error.response) == (1, None)
    # An explicit null is the same as leaving the field out.
    parsed(items=[{"prompt": None, "messages": messages, "responses": ["a"]}])


def test_only_the_first_fault_is_told_and_where_it_is() -> None:
    items = [
        GOOD["items"][0],
        {"prompt": "p", "templated": True, "responses": ["a", 1, 2, 3]},
        4,
        5,
    ]
    error = refusal({"items": items, "truncation": "no"})
    assert str(error) == "items[1].responses[1]: must be a text, or an assistant's message"
    assert (error.item, error.response) == (1, 1)


def test_values_are_never_repeated_and_names_only_if_short_and_plain() -> None:
    assert "penaltys: unknown field" in str(refusal(GOOD | {"penaltys": {"x": "canary"}}))
    assert "canary" not in str(refusal(GOOD | {"truncation": "canary"}))
    for name in ("a b", "<b>", "x" * 65, "\u2028", ""):
        said = str(refusal(GOOD | {name: 1}))
        assert said == "(name): unknown field"


def test_as_many_responses_and_penalties_as_allowed_and_no_more() -> None:
    most = {"prompt": "p", "templated": True, "responses": ["a"] * MAX_RESPONSES}
    parsed(items=[most])
    assert "items[0].responses" in str(
        refusal({"items": [most | {"responses": ["a"] * (MAX_RESPONSES + 1)}]})
    )
    penalties = {str(number): {"lambda": 1} for number in range(MAX_PENALTIES)}
    parsed(penalties=penalties)
    assert "penalties: name at most" in str(
        refusal(GOOD | {"penalties": penalties | {"more": {"lambda": 1}}})
    )


def test_very_many_unknown_fields_are_not_gone_through() -> None:
    fields = {f"f{number}": 1 for number in range(MAX_LISTED_FAULTS + 1)}
    assert "more than" in str(refusal(GOOD | fields))
    assert "f0: unknown field" in str(refusal(GOOD | {"f0": 1, "f1": 1}))


@pytest.mark.parametrize(
    "body", [b"", b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b'"\\ud800"', b"[" * 100_000, b"nul"]
)
def test_what_is_not_json_is_said_to_be_so(body: bytes) -> None:
    assert "Invalid JSON" in str(refusal(body))


def test_a_pair_of_surrogates_is_a_character() -> None:
    request = parse(b'{"items":[{"prompt":"p","templated":true,"responses":["\\ud83c\\udf0a"]}]}')
    assert request.groups[0].responses == ("\U0001f30a",)
