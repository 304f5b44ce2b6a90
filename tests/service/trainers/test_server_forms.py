"""The forms of the answers, documents as objects, BOS and template, `/tokenize`, `/v1/models/{id}`:
what clients of vLLM, SGLang, Infinity and TEI rely on beside the numbers."""

from __future__ import annotations

import base64
import json
import math
import sys
from dataclasses import replace
from typing import Any

import httpx2
import pytest
import torch

from candor.probes.identity import template_sha256
from candor.trainers.options import TrainerRoutes
from candor.trainers.vllm.encoded import FLOATS, Encoded
from tests.service.serving import load_tiny, running, tiny_app, tiny_reward_model
from tests.service.text.templates import TOOLS
from tests.service.trainers.field_lists import rewards_in
from tests.service.trainers.golden import native
from tests.service.trainers.sent import (
    CHAT,
    IDS,
    ITEM,
    OTHER,
    OTHER_TEXT,
    REPLY,
    TEXT,
    TURN,
    USER,
    answered,
    message_of,
)
from tests.tiny import TURNS, tiny_tokenizer


def decoded(text: str, dtype: str, order: str) -> float:
    """A base64 vector of length 1, read as vLLM's client reads it."""
    raw = base64.b64decode(text)
    if order == "big" or (order == "native" and sys.byteorder == "big"):
        raw = raw[::-1]
    return float(torch.frombuffer(bytearray(raw), dtype=FLOATS[dtype]).float())


@pytest.mark.parametrize("order", ["native", "little", "big"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("path", ["/v1/embeddings", "/pooling"])
def test_base64_has_the_number_in_the_type_and_order_that_are_asked_for(
    web: httpx2.Client, path: str, dtype: str, order: str
) -> None:
    (expected,) = answered(web, path, {"input": TEXT})
    body = {"input": TEXT, "encoding_format": "base64", "embed_dtype": dtype, "endianness": order}
    (one,) = web.post(path, json=body).json()["data"]
    got = decoded(one["embedding" if path == "/v1/embeddings" else "data"], dtype, order)
    rounded = float(torch.tensor(expected, dtype=torch.float32).to(FLOATS[dtype]).float())
    assert got == rounded
    assert got == pytest.approx(expected, rel=0.13)
    # Without base64 the two fields mean nothing, as in vLLM.
    assert answered(web, path, body | {"encoding_format": "float"}) == pytest.approx([expected])


@pytest.mark.parametrize("order", ["native", "little", "big"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("path", ["/v1/embeddings", "/pooling"])
def test_bytes_are_the_numbers_and_their_header_says_what_they_are(
    web: httpx2.Client, path: str, dtype: str, order: str
) -> None:
    texts = [TEXT, OTHER_TEXT]
    body = {"input": texts, "embed_dtype": dtype, "endianness": order}
    expected = web.post(path, json=body | {"encoding_format": "base64"}).json()
    name = "embedding" if path == "/v1/embeddings" else "data"
    numbers = [base64.b64decode(one[name]) for one in expected["data"]]
    answer = web.post(path, json=body | {"encoding_format": "bytes"})
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.content == b"".join(numbers)
    said = json.loads(answer.headers["metadata"])
    assert [answer.content[one["start"] : one["end"]] for one in said["data"]] == numbers
    for index, one in enumerate(said["data"]):
        assert (one["index"], one["shape"]) == (index, [1])
        assert (one["embed_dtype"], one["endianness"]) == (dtype, order)
    assert said["model"] == expected["model"]
    assert said["usage"]["total_tokens"] == expected["usage"]["total_tokens"]
    alone = web.post(path, json=body | {"encoding_format": "bytes_only"})
    assert alone.content == answer.content
    assert "metadata" not in alone.headers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/classify", {"input": TEXT}),
        ("/classify", {"messages": [*CHAT]}),
        ("/rerank", {"query": USER, "documents": [REPLY, OTHER]}),
        ("/score", {"text_1": USER, "text_2": [REPLY, OTHER]}),
    ],
)
def test_invocations_takes_the_bodies_of_the_other_routes(
    web: httpx2.Client, path: str, body: dict[str, Any]
) -> None:
    expected = answered(web, path, body)
    assert answered(web, "/invocations", body) == pytest.approx(expected, abs=1e-6)
    asked = body | {"use_activation": True}
    squashed = answered(web, path, asked)
    assert answered(web, "/invocations", asked) == pytest.approx(squashed, abs=1e-6)
    assert message_of(web.post("/invocations", json=body | {"temperature": 1})).startswith(
        "temperature: unknown field"
    )


@pytest.mark.parametrize("path", ["/classify", "/pooling", "/score", "/rerank"])
def test_two_names_of_one_field_may_not_contradict(web: httpx2.Client, path: str) -> None:
    body: dict[str, Any] = {"text_1": USER, "text_2": REPLY}
    if path == "/rerank":
        body = {"query": USER, "documents": [REPLY]}
    elif path != "/score":
        body = {"input": TEXT}
    same = answered(web, path, body | {"use_activation": True, "softmax": True})
    assert same == answered(web, path, body | {"use_activation": True, "activation": None})
    wrong = body | {"use_activation": True, "softmax": False}
    assert "'use_activation' and 'softmax'" in message_of(web.post(path, json=wrong))


def test_a_type_that_cannot_hold_the_reward_is_refused() -> None:
    for dtype, largest in (("float16", 65504.0), ("fp8_e4m3", 448.0), ("fp8_e5m2", 57344.0)):
        encoded = Encoded.model_validate({"encoding_format": "base64", "embed_dtype": dtype})
        for sign in (1.0, -1.0):
            assert decoded(str(encoded.vector(sign * largest)), dtype, "native") == sign * largest
            with pytest.raises(ValueError, match=r"'embed_dtype'.*encoding_format float"):
                encoded.vector(sign * largest * 1.5)
    for dtype in ("float32", "bfloat16"):
        encoded = Encoded.model_validate({"encoding_format": "base64", "embed_dtype": dtype})
        with pytest.raises(ValueError, match="'embed_dtype'"):
            encoded.vector(1e39)


@pytest.mark.parametrize("name", ["encoding_format", "embed_dtype", "endianness"])
def test_an_unknown_encoding_is_refused_by_its_field(web: httpx2.Client, name: str) -> None:
    for path in ("/v1/embeddings", "/pooling"):
        for wrong in ("int8", "middle", "BASE64", 3):
            body = {"input": TEXT, "encoding_format": "base64", name: wrong}
            assert message_of(web.post(path, json=body)).startswith(f"{name}: must be ")


@pytest.mark.parametrize(
    ("path", "starts"),
    [
        ("/classify", "classify-"),
        ("/pooling", "pool-"),
        ("/v1/embeddings", "embd-"),
    ],
)
def test_the_answer_has_the_request_s_id(web: httpx2.Client, path: str, starts: str) -> None:
    body = {"input": TEXT, "request_id": "abc"}
    assert web.post(path, json=body).json()["id"] == f"{starts}abc"
    assert len(web.post(path, json={"input": TEXT}).json()["id"]) > len(starts) + 8


def test_sglang_s_ids_come_back_with_their_inputs(web: httpx2.Client) -> None:
    two = web.post("/classify", json={"text": [TEXT, OTHER_TEXT], "rid": ["a", "b"]}).json()
    assert [one["meta_info"]["id"] for one in two] == ["a", "b"]
    one = web.post("/classify", json={"text": TEXT, "rid": "a"}).json()
    assert one["meta_info"]["id"] == "a"
    for wrong in ({"text": TEXT, "rid": ["a"]}, {"text": [TEXT], "rid": "a"}):
        assert "'rid' must be" in message_of(web.post("/classify", json=wrong))
    assert "'rid' has 2" in message_of(
        web.post("/classify", json={"text": [TEXT], "rid": ["a", "b"]})
    )


def test_the_label_of_one_class_is_vllm_s_and_tei_s(web: httpx2.Client) -> None:
    (one,) = web.post("/classify", json={"input": TEXT}).json()["data"]
    assert (one["label"], one["num_classes"]) == ("LABEL_0", 1)
    assert web.post("/predict", json={"inputs": TEXT}).json()[0]["label"] == "LABEL_0"


# -- BOS and template


@pytest.mark.parametrize(
    ("makes", "with_bos", "without", "messages"),
    [
        ({"bos": True, "template_bos": True}, True, False, False),
        ({"bos": True}, True, False, True),
        ({"template_bos": True}, True, False, True),
        ({}, True, True, True),
    ],
)
def test_add_special_tokens_is_taken_where_it_gives_the_one_bos(
    makes: Any, with_bos: bool, without: bool, messages: bool
) -> None:
    """`with_bos`, `without`: whether false is taken for a text that has a BOS, or has none.
    `messages`: whether true is taken for messages."""
    tokenizer = tiny_tokenizer(**makes)
    model = replace(
        tiny_reward_model(),
        tokenizer=tokenizer,
        template_sha256=template_sha256(tokenizer.chat_template),
    )
    with running(
        tiny_app(lambda metrics: load_tiny(metrics, reward_model=model, served={}))
    ) as url:
        expected = native(url, [ITEM])[0]["reward"]
        for body, taken in (
            ({"input": "<s>" + TEXT, "add_special_tokens": False}, with_bos),
            ({"input": TEXT, "add_special_tokens": False}, without),
            ({"input": TEXT, "add_special_tokens": True}, True),
            ({"messages": CHAT, "add_special_tokens": True}, messages),
            ({"messages": CHAT, "add_special_tokens": False}, True),
        ):
            response = httpx2.post(f"{url}/classify", json=body, timeout=60)
            if taken:
                assert rewards_in(response.json()) == pytest.approx([expected], abs=1e-5), body
            else:
                assert message_of(response).startswith("'add_special_tokens': "), body


def test_another_chat_template_than_the_served_one_is_refused(web: httpx2.Client) -> None:
    for path in ("/classify", "/pooling", "/v1/embeddings", "/tokenize"):
        for other in (TURNS + " ", "", "{{ messages }}"):
            body = {"messages": CHAT, "chat_template": other}
            message = message_of(web.post(path, json=body))
            assert message.startswith("'chat_template' is not the served model's"), path


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALL = {"type": "function", "function": {"name": "look", "arguments": "{}"}}


def test_tools_and_calls_reach_the_template_as_on_the_rewards_route() -> None:
    tokenizer = tiny_tokenizer(template=TOOLS)
    model = replace(
        tiny_reward_model(), tokenizer=tokenizer, template_sha256=template_sha256(TOOLS)
    )
    calls = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    with running(tiny_app(lambda metrics: load_tiny(metrics, reward_model=model))) as url:
        plain = native(url, [ITEM])[0]["reward"]
        for tools in (None, [TOOL]):
            for reply in (CHAT[1], calls):
                item = {"messages": [TURN], "responses": [reply]} | (
                    {"tools": tools} if tools else {}
                )
                expected = native(url, [item])[0]["reward"]
                assert (expected == plain) == (tools is None and reply is not calls)
                for path in ("/classify", "/pooling", "/v1/embeddings"):
                    body = {"messages": [TURN, reply], "tools": tools, "chat_template": TOOLS}
                    response = httpx2.post(url + path, json=body, timeout=60)
                    assert rewards_in(response.json()) == pytest.approx([expected], abs=1e-5)
                count = httpx2.post(
                    f"{url}/tokenize", json={"messages": [TURN, reply], "tools": tools}
                )
                assert rewards_in(count.json()) == [native(url, [item])[0]["num_tokens"]]
        refused = httpx2.post(f"{url}/classify", json={"input": TEXT, "tools": [TOOL]}, timeout=60)
        assert "'tools' goes with 'messages'" in message_of(refused)


def test_a_template_without_tools_refuses_them_by_name(web: httpx2.Client) -> None:
    body = {"messages": CHAT, "tools": [TOOL]}
    assert "'tools'" in message_of(web.post("/classify", json=body))


# -- /tokenize and /v1/models/{id}


def test_tokenize_counts_what_scoring_reads(web: httpx2.Client) -> None:
    usage = web.post("/classify", json={"messages": CHAT}).json()["usage"]
    for body in ({"messages": CHAT}, {"prompt": TEXT}):
        answer = web.post("/tokenize", json=body).json()
        assert answer.keys() == {"count", "max_model_len", "tokens"}
        assert answer["count"] == len(answer["tokens"]) == usage["prompt_tokens"]
        assert answer["max_model_len"] == 256
    again = web.post("/classify", json={"input": answer["tokens"]}).json()
    assert again["usage"] == usage
    plain = web.post("/tokenize", json={"prompt": USER, "model": "any"}).json()
    assert plain["tokens"] == tiny_tokenizer()(USER).input_ids


def test_tokenize_refuses_what_scoring_would_refuse(web: httpx2.Client) -> None:
    for body, says in (
        ({}, "'prompt' or 'messages' (vLLM)"),
        ({"prompt": "a", "messages": CHAT}, "exactly one"),
        ({"messages": [TURN]}, "assistant's turn"),
        ({"prompt": ["a"]}, "prompt: must be"),
    ):
        assert says in message_of(web.post("/tokenize", json=body))
    long = web.post("/tokenize", json={"prompt": "a " * 600})
    assert (long.status_code, long.json()["error"]["type"]) == (422, "too_long")


def test_a_model_is_found_by_its_id(web: httpx2.Client) -> None:
    (listed,) = web.get("/v1/models").json()["data"]
    assert web.get("/v1/models/tiny").json() == listed
    for other in ("huge", "org/tiny", "tiny/x"):
        response = web.get(f"/v1/models/{other}")
        assert response.status_code == 404
        assert response.json()["error"]["message"] == "this server serves one model: tiny"


# -- the sigmoid that a library asks for


def test_a_server_can_answer_the_reward_where_a_library_asks_for_the_sigmoid(url: str) -> None:
    (expected,) = (one["reward"] for one in native(url, [ITEM]))
    bodies = [
        ("/rerank", {"query": USER, "documents": [REPLY], "raw_scores": False}),
        ("/rerank", {"query": USER, "texts": [REPLY], "raw_scores": False}),
        ("/predict", {"inputs": TEXT, "raw_scores": False}),
        ("/classify", {"input": TEXT, "use_activation": True}),
        ("/score", {"text_1": USER, "text_2": REPLY, "use_activation": True}),
    ]
    with running(tiny_app(trainers=TrainerRoutes(activation="never"))) as never:
        for path, body in bodies:
            response = httpx2.post(never + path, json=body, timeout=60)
            assert rewards_in(response.json()) == pytest.approx([expected], abs=1e-5)
            asked = httpx2.post(url + path, json=body, timeout=60).json()
            assert rewards_in(asked) == pytest.approx([1 / (1 + math.exp(-expected))], abs=1e-5)


def test_a_body_that_says_right_is_not_cut_left_by_the_server_s_setting() -> None:
    long = TEXT.replace(USER, "The poem is about the sea. " * 60)
    with running(tiny_app(trainers=TrainerRoutes(truncation="left"))) as left:
        cut = httpx2.post(f"{left}/classify", json={"input": long}, timeout=60)
        assert cut.status_code == 200
        body = {"input": long, "truncation_side": "right"}
        refused = httpx2.post(f"{left}/classify", json=body, timeout=60)
        assert (refused.status_code, refused.json()["error"]["type"]) == (422, "too_long")


# -- documents


OBJECTS = [
    [REPLY, OTHER],
    [{"text": REPLY}, {"text": OTHER}],
    [{"type": "text", "text": REPLY}, {"type": "text", "text": OTHER}],
    [{"text": REPLY, "title": "a"}, OTHER],
    [{"content": [{"type": "text", "text": REPLY}]}, {"content": OTHER}],
    [[{"type": "text", "text": REPLY}], {"content": [{"type": "text", "text": OTHER}]}],
]


@pytest.mark.parametrize("documents", OBJECTS)
def test_a_document_may_be_an_object(web: httpx2.Client, documents: list[Any]) -> None:
    expected = answered(web, "/rerank", {"query": USER, "documents": [REPLY, OTHER]})
    for query in (USER, {"text": USER}, {"content": [{"type": "text", "text": USER}]}):
        for more in ({}, {"raw_scores": True}):
            body = {"query": query, "documents": documents} | more
            assert answered(web, "/rerank", body) == pytest.approx(expected, abs=1e-5)
        pairs = {"queries": query, "documents": documents}
        assert sorted(answered(web, "/score", pairs), reverse=True) == pytest.approx(expected)
    results = web.post("/rerank", json={"query": USER, "documents": documents}).json()["results"]
    for one in results:
        sent = documents[one["index"]]
        if isinstance(sent, dict):
            assert one["document"] == sent
        else:
            assert one["document"] == {"text": [REPLY, OTHER][one["index"]]}


def test_one_document_needs_no_list(web: httpx2.Client) -> None:
    expected = answered(web, "/rerank", {"query": USER, "documents": [REPLY]})
    for one in (REPLY, {"text": REPLY}, {"content": [{"type": "text", "text": REPLY}]}):
        got = answered(web, "/rerank", {"query": USER, "documents": one})
        assert got == pytest.approx(expected, abs=1e-5)


def test_infinity_s_documents_are_plain_strings(web: httpx2.Client) -> None:
    body = {"query": USER, "documents": [REPLY, {"text": OTHER}], "raw_scores": True}
    shown = web.post("/rerank", json=body | {"return_documents": True}).json()
    assert {one["index"]: one["document"] for one in shown["results"]} == {0: REPLY, 1: OTHER}
    assert shown["object"] == "rerank"
    assert all("document" not in one for one in web.post("/rerank", json=body).json()["results"])


@pytest.mark.parametrize(
    "wrong",
    [
        3,
        {"title": "a"},
        {"text": 3},
        {"text": "a", "image": "b"},
        {"image": "b"},
        {"content": [{"type": "image_url", "image_url": {"url": "b"}}]},
        {"content": [{"type": "text", "text": "a"}], "text": "b"},
        {"content": []},
        {"content": {"content": "a"}},
        {},
        [1, 2],
    ],
)
def test_a_document_that_is_not_text_is_refused(web: httpx2.Client, wrong: Any) -> None:
    for body in (
        {"query": USER, "documents": [REPLY, wrong]},
        {"query": USER, "documents": [REPLY, wrong], "raw_scores": True},
        {"query": wrong, "documents": [REPLY]},
    ):
        name = "query" if body["query"] == wrong else "documents[1]"
        message = message_of(web.post("/rerank", json=body))
        assert message.startswith(f"{name}: ")
        assert "must be a text" in message or "reads text parts only" in message
    pairs = {"queries": USER, "documents": [REPLY, wrong]}
    assert message_of(web.post("/score", json=pairs)).startswith("documents[1]: ")


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([TURN, {"role": "cat", "content": "a"}], "messages[1].role: "),
        ([TURN, {"role": "user"}], "messages[1]: 'content' is required"),
        ([CHAT, [TURN, {"role": "cat", "content": "a"}]], "messages[1][1].role: "),
        ([CHAT, CHAT[0]], "messages[1]: must be a valid list"),
        ([CHAT, []], "messages[1]: "),
        ([], "messages: "),
        ("a", "messages: must be a valid list"),
    ],
)
def test_a_fault_in_messages_is_named_by_its_place(
    web: httpx2.Client, messages: Any, says: str
) -> None:
    for path in ("/classify", "/pooling", "/v1/embeddings"):
        assert message_of(web.post(path, json={"messages": messages})).startswith(says)


def test_a_conversation_of_a_batch_without_a_response_is_named(web: httpx2.Client) -> None:
    error = web.post("/v1/embeddings", json={"messages": [CHAT, [TURN]]}).json()["error"]
    assert (error["item"], error["type"]) == (1, "invalid_request")
    assert "must end with the assistant's turn" in error["message"]


def test_two_fields_for_one_thing_are_refused(web: httpx2.Client) -> None:
    for path, body, says in (
        ("/classify", {"input": TEXT, "messages": CHAT}, "exactly one of 'input' and 'messages'"),
        ("/classify", {"text": TEXT, "input_ids": [IDS]}, "exactly one of 'text' and 'input_ids'"),
        ("/score", {"text_1": USER, "queries": USER, "text_2": REPLY}, "'text_1' and 'queries'"),
        (
            "/score",
            {"queries": USER, "documents": REPLY, "items": OTHER},
            "'documents' and 'items'",
        ),
    ):
        assert says in message_of(web.post(path, json=body))
