"""Every field of every trainer's body is honoured, harmless or refused. The lists are the
contracts' own, so a new field is tested without being named here, or fails for want of a case."""

from __future__ import annotations

import json
import math
import subprocess
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from candor.trainers.fields import MAX_FIELDS, Harmless, Refused
from candor.trainers.vllm.encoded import Encoded
from tests.paths import ROOT
from tests.service.trainers.field_lists import (
    contracts,
    honoured,
    honoured_table,
    marked,
    refused_table,
)
from tests.service.trainers.sent import (
    BOTH,
    CHAT,
    IDS,
    ITEM,
    OTHER,
    OTHER_CHAT,
    OTHER_ITEM,
    OTHER_TEXT,
    PROMPT,
    REPLY,
    TEXT,
    TURN,
    USER,
    answered,
    message_of,
)
from tests.tiny import TURNS

LONG = "The poem is about the sea. " * 60
LONG_TEXT = TEXT.replace(USER, LONG)

CONTRACTS = list(contracts())
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
SAMPLES: list[Any] = ["x", "", True, False, 0, 1, 7, 0.5, {"a": 1}, {}, ["x"], []]
"""A value of every kind of JSON. A refused field accepts none of them but its neutral values."""
each_contract = pytest.mark.parametrize(
    ("path", "contract"), CONTRACTS, ids=[f"{path} {one.client}" for path, one in CONTRACTS]
)


def fields(kind: Any) -> pytest.MarkDecorator:
    """Parametrises over every field of every contract that carries this mark."""
    found = [
        (path, contract, name)
        for path, contract in CONTRACTS
        for name in marked(contract.body, kind)
    ]
    names = [f"{path} {contract.client} {name}" for path, contract, name in found]
    return pytest.mark.parametrize(("path", "contract", "name"), found, ids=names)


@fields(Refused)
def test_a_field_that_cannot_be_honoured_is_refused_by_its_name(
    web: httpx2.Client, path: str, contract: Any, name: str
) -> None:
    mark = marked(contract.body, Refused)[name]
    expected = answered(web, path, contract.example)
    for value in SAMPLES:
        neutral = any(type(value) is type(same) and value == same for same in mark.neutral)
        body = contract.example | {name: value}
        if neutral:
            assert answered(web, path, body) == pytest.approx(expected, abs=1e-5)
        else:
            message = message_of(web.post(path, json=body))
            assert message.startswith(f"{name}: must be "), value
            assert mark.why in message
    for value in (None, *mark.neutral):
        body = contract.example | {name: value}
        assert answered(web, path, body) == pytest.approx(expected, abs=1e-5), value


@fields(Harmless)
def test_a_harmless_field_changes_nothing(
    web: httpx2.Client, path: str, contract: Any, name: str
) -> None:
    expected = answered(web, path, contract.example)
    for value in (None, *SAMPLES):
        body = contract.example | {name: value}
        assert answered(web, path, body) == pytest.approx(expected, abs=1e-5), value


@each_contract
def test_a_field_that_the_route_does_not_have_is_refused_unless_it_is_null(
    web: httpx2.Client, path: str, contract: Any
) -> None:
    expected = answered(web, path, contract.example)
    for name in ("chat_tmplate", "truncate_to", "Model"):
        message = message_of(web.post(path, json=contract.example | {name: 1}))
        assert f"{name}: unknown field" in message
        assert "leave it out" in message
        assert answered(web, path, contract.example | {name: None}) == pytest.approx(
            expected, abs=1e-5
        )


@each_contract
def test_null_is_as_good_as_absent_in_every_field(
    web: httpx2.Client, path: str, contract: Any
) -> None:
    expected = answered(web, path, contract.example)
    nulls = {name: None for name in contract.body.model_fields if name not in contract.example}
    assert answered(web, path, contract.example | nulls) == pytest.approx(expected, abs=1e-5)


def test_a_body_of_many_fields_is_refused_before_they_are_read(web: httpx2.Client) -> None:
    many = {f"f{number}": number for number in range(MAX_FIELDS)}
    assert f"{MAX_FIELDS + 1} fields" in message_of(
        web.post("/classify", json={"input": TEXT} | many)
    )


def test_a_long_or_strange_name_is_not_repeated(web: httpx2.Client) -> None:
    for name in ("x" * 65, "<script>", "a b"):
        message = message_of(web.post("/classify", json={"input": TEXT, name: 1}))
        assert message.startswith("(name): unknown field")


# -- every honoured field: the number of `/v1/rewards`


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def same(value: float) -> float:
    return value


@dataclass(frozen=True)
class Case:
    """A body, and the items of `/v1/rewards` whose rewards it gets, through `reads`."""

    path: str
    body: dict[str, Any]
    items: list[dict[str, Any]] = field(default_factory=lambda: [ITEM])
    reads: Any = same
    ranked: bool = False
    options: dict[str, Any] = field(default_factory=dict)


TEMPLATE = TURNS
OF_TEXTS: list[dict[str, Any]] = [
    {"input": TEXT},
    {"input": [TEXT]},
    {"input": IDS},
    {"input": [IDS]},
    {"messages": CHAT},
    {"messages": [CHAT]},
    {"input": CHAT},
    {"input": [CHAT]},
    {"messages": CHAT, "chat_template": TEMPLATE},
    {"messages": CHAT, "add_special_tokens": False},
    {"messages": CHAT, "add_special_tokens": True},
    {"input": TEXT, "add_special_tokens": True},
    {"input": "<s>" + TEXT, "add_special_tokens": False},
    {"input": TEXT, "request_id": "abc"},
    {"input": TEXT, "truncation_side": "right"},
    {"input": TEXT, "truncation_side": "left"},
]
DOCUMENTS = {"query": USER, "documents": [REPLY, OTHER]}
ACTIVATIONS = ["use_activation", "activation", "softmax"]
CASES = [
    Case("/get_reward", {"query": [TEXT, OTHER_TEXT], "prompts": [PROMPT, PROMPT]}, BOTH),
    Case("/get_reward", {"prompts": [USER, USER], "responses": [REPLY, OTHER]}, BOTH),
    *(
        Case(path, {"prompt": prompt, "response": REPLY + end})
        for path in ("/slime", "/slime/keyed")
        for prompt, end in ((USER, ""), (PROMPT, "<|im_end|>"), ([TURN], "<|im_end|>"))
    ),
    *(
        Case(path, body)
        for path in ("/classify", "/pooling", "/v1/embeddings")
        for body in OF_TEXTS
    ),
    *(
        Case(path, {key: [CHAT, OTHER_CHAT]}, BOTH)
        for path in ("/classify", "/pooling", "/v1/embeddings")
        for key in ("messages", "input")
    ),
    *(
        Case(path, body | {name: on}, reads=sigmoid if on else same)
        for path, body in (
            ("/classify", {"input": TEXT}),
            ("/classify", {"messages": CHAT}),
            ("/pooling", {"input": TEXT}),
            ("/score", {"text_1": USER, "text_2": REPLY}),
            ("/rerank", {"query": USER, "documents": [REPLY]}),
        )
        for name in ACTIVATIONS
        for on in (True, False)
    ),
    *(
        Case(
            path,
            {"input": LONG_TEXT, "truncate_prompt_tokens": -1},
            [{"messages": [{"role": "user", "content": LONG}], "responses": [REPLY]}],
            options={"truncation": "left"},
        )
        for path in ("/classify", "/pooling", "/v1/embeddings")
    ),
    *(
        Case(path, {first: USER, second: [REPLY, OTHER]}, BOTH)
        for path in ("/score", "/v1/score")
        for first, second in (
            ("text_1", "text_2"),
            ("queries", "documents"),
            ("queries", "items"),
            ("data_1", "data_2"),
        )
    ),
    Case("/score", {"text_1": USER, "text_2": REPLY, "request_id": "a", "truncation_side": "left"}),
    *(
        Case(path, body, options={"truncation": "left"}, items=items)
        for path, body, items in (
            (
                "/score",
                {"text_1": LONG, "text_2": REPLY, "truncate_prompt_tokens": -1},
                [{"messages": [{"role": "user", "content": LONG}], "responses": [REPLY]}],
            ),
            *(
                (
                    "/rerank",
                    {"query": LONG, "documents": [REPLY], "truncate_prompt_tokens": -1} | more,
                    [{"messages": [{"role": "user", "content": LONG}], "responses": [REPLY]}],
                )
                for more in ({}, {"raw_scores": True})
            ),
            (
                "/rerank",
                {"query": LONG, "texts": [REPLY], "truncate": True, "truncation_direction": "Left"},
                [{"messages": [{"role": "user", "content": LONG}], "responses": [REPLY]}],
            ),
            (
                "/predict",
                {"inputs": LONG_TEXT, "truncate": True, "truncation_direction": "left"},
                [{"messages": [{"role": "user", "content": LONG}], "responses": [REPLY]}],
            ),
        )
    ),
    *(
        Case(path, DOCUMENTS | more, BOTH, ranked=True)
        for path in ("/rerank", "/v1/rerank", "/v2/rerank")
        for more in (
            {},
            {"top_n": 0},
            {"top_n": 5},
            {"return_documents": False},
            {"request_id": "a", "truncation_side": "left"},
        )
    ),
    *(
        Case(
            "/rerank",
            DOCUMENTS | {"raw_scores": raw} | more,
            BOTH,
            sigmoid if not raw else same,
            True,
        )
        for raw in (True, False)
        for more in (
            {"top_n": 2},
            {"return_documents": True},
            {"request_id": "a", "truncation_side": "left"},
        )
    ),
    *(
        Case(path, body | {"raw_scores": raw}, items, reads, ranked)
        for raw, reads in ((True, same), (False, sigmoid))
        for path, body, items, ranked in (
            ("/rerank", {"query": USER, "texts": [REPLY, OTHER], "return_text": True}, BOTH, True),
            ("/predict", {"inputs": [[TEXT], [USER, OTHER]]}, BOTH, False),
            ("/predict", {"inputs": [USER, OTHER]}, [OTHER_ITEM], False),
        )
    ),
    Case("/classify", {"text": TEXT, "rid": "abc"}),
    Case("/classify", {"text": [TEXT, OTHER_TEXT], "rid": ["a", "b"]}, BOTH),
    Case("/classify", {"text": None, "input_ids": [IDS]}),
    Case("/v1/score/evaluation", {"messages": [TEXT, OTHER_TEXT]}, BOTH),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.path} {','.join(case.body)}")
def test_an_honoured_field_gives_the_number_of_the_rewards_route(
    web: httpx2.Client, case: Case
) -> None:
    response = web.post("/v1/rewards", json={"items": case.items, **case.options})
    assert response.status_code == 200, response.text
    results = response.json()["results"]
    expected = [case.reads(one["reward"]) for result in results for one in result["responses"]]
    if case.ranked:
        expected.sort(reverse=True)
    assert answered(web, case.path, case.body) == pytest.approx(expected, abs=1e-5)


def test_every_honoured_field_has_a_case() -> None:
    # test_server_forms.py has the encodings, the tools and the counts.
    elsewhere = {"tools", *Encoded.model_fields}
    for path, contract in CONTRACTS:
        if path == "/tokenize":
            continue
        same_route = [case.body for case in CASES if case.path == path]
        fitting = [body for body in same_route if contract.needs <= body.keys()]
        if contract.or_needs is not None:
            fitting += [body for body in same_route if contract.or_needs <= body.keys()]
        tested = {name for body in fitting for name, value in body.items() if value is not None}
        assert set(honoured(contract.body)) <= tested | elsewhere, (path, contract.client)


# -- against vLLM, and the page


@pytest.mark.vllm
def test_vllm_s_own_types_read_our_answers_and_no_field_of_its_bodies_is_unknown() -> None:
    if not PYTHON.is_file():
        pytest.skip("vLLM is not installed: `make vllm`")
    script = ROOT / "tests" / "service" / "trainers" / "vllm_bodies.py"
    # test_trainer_routes.py compares these answers with a live server's.
    answers = {path: one.answer for path, one in CONTRACTS if "vLLM" in one.client}
    run = subprocess.run(
        [PYTHON, script], input=json.dumps(answers), capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    bodies = json.loads(run.stdout.splitlines()[-1])
    assert len(bodies) >= 6
    for path, classes in bodies.items():
        ours: set[str] = set().union(
            *(contract.body.model_fields for at, contract in CONTRACTS if at == path)
        )
        assert len(classes) >= 1
        for name, theirs in classes.items():
            assert set(theirs) <= ours, (path, name, set(theirs) - ours)


def test_the_page_has_the_contracts_own_tables() -> None:
    page = (ROOT / "docs" / "trainers" / "fields.md").read_text()
    for table in (honoured_table(), refused_table()):
        assert table in page, f"docs/trainers/fields.md must hold this table:\n{table}"
