"""Messages with more than a text: handed to the template as they are, and what it leaves out."""

from __future__ import annotations

import json
import math
from datetime import date
from typing import Any

import pytest

from candor.client.schema import Message
from candor.errors import InvalidMessages
from candor.item import Item
from candor.text.render import Renderer
from candor.text.request import ChatMessage, Messages, parse
from candor.text.template import ChatTemplate
from tests.service.text.templates import (
    BARE,
    CALLS_END_OTHERWISE,
    DATED,
    DATED_WITH_TOOLS,
    RANDOM,
    STRICT_IDS,
    TOOLS,
    TWO_ROLES,
    WRITES_NONE,
)
from tests.tiny import tiny_tokenizer

CALL = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": "weather", "arguments": {"city": "Bergen", "days": None}},
}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
ASKED: list[dict[str, Any]] = [
    {"role": "developer", "content": "Be kind."},
    {"role": "user", "name": "ann", "content": "Is it wet?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "abcdefghi", "name": "weather", "content": "rain"},
]
PARTS = [{"type": "text", "text": "Is it "}, {"type": "text", "text": "wet?"}]


def made(template: str) -> Renderer:
    return Renderer(tiny_tokenizer(template=template), max_length=4096)


def context(messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> Messages:
    return Messages.of([Message.model_validate(message) for message in messages], tools)


def by_transformers(
    template: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None
) -> tuple[int, ...]:
    tokenizer = tiny_tokenizer(template=template)
    text = tokenizer.apply_chat_template(messages, tools=tools, tokenize=False)
    return tuple(tokenizer(text, add_special_tokens=False).input_ids)


def text_of(item: Item) -> str:
    return str(tiny_tokenizer().decode(item.token_ids[item.response_start : item.response_end]))


@pytest.mark.parametrize("template", [TOOLS, STRICT_IDS, CALLS_END_OTHERWISE])
@pytest.mark.parametrize("tools", [None, [TOOL]])
def test_every_field_reaches_the_template(
    template: str, tools: list[dict[str, Any]] | None
) -> None:
    item = made(template).encode(context(ASKED, tools), "Yes, it is.")
    reply = {"role": "assistant", "content": "Yes, it is."}
    assert item.token_ids == by_transformers(template, [*ASKED, reply], tools)
    assert text_of(item) == "Yes, it is."
    assert item.remarks == ()


@pytest.mark.parametrize("template", [TOOLS, STRICT_IDS, CALLS_END_OTHERWISE])
@pytest.mark.parametrize("content", [None, "I look it up."])
def test_a_response_may_be_a_tool_call(template: str, content: str | None) -> None:
    reply = ChatMessage("assistant", content, {"tool_calls": [CALL]})
    item = made(template).encode(context(ASKED[:2]), reply)
    sent = {"role": "assistant", "content": content, "tool_calls": [CALL]}
    assert item.token_ids == by_transformers(template, [*ASKED[:2], sent])
    assert text_of(item).startswith((content or "") + "\n<tool_call>")
    assert text_of(item).endswith("</tool_call>")


def test_a_response_may_have_reasoning_of_its_own() -> None:
    reply = ChatMessage("assistant", "Yes.", {"reasoning_content": "It rains."})
    item = made(TOOLS).encode(context(ASKED), reply)
    sent = {"role": "assistant", "content": "Yes.", "reasoning_content": "It rains."}
    assert item.token_ids == by_transformers(TOOLS, [*ASKED, sent])
    assert text_of(item) == "<think>\nIt rains.\n</think>\n\nYes."


@pytest.mark.parametrize(
    ("template", "as_template_has_it"),
    [(TOOLS, PARTS), (BARE, "Is it wet?"), (TWO_ROLES, "Is it wet?")],
)
def test_text_parts_are_read_as_the_template_reads_them(
    template: str, as_template_has_it: Any
) -> None:
    sent = [{"role": "user", "content": PARTS}]
    item = made(template).encode(context(sent), "Yes.")
    plain = [{"role": "user", "content": as_template_has_it}]
    reply = {"role": "assistant", "content": "Yes."}
    assert item.token_ids == by_transformers(template, [*plain, reply])
    assert b"type" not in tiny_tokenizer().decode(item.token_ids).encode()


@pytest.mark.parametrize("template", [BARE, WRITES_NONE])
def test_the_word_none_is_never_written_for_a_null(template: str) -> None:
    messages = [*ASKED[1:2], {"role": "assistant", "content": None}, *ASKED[1:2]]
    said = [{key: m[key] for key in ("role", "content")} for m in messages]
    item = made(template).encode(context(said), "Yes.")
    empty = [message | {"content": message["content"] or ""} for message in said]
    reply = {"role": "assistant", "content": "Yes."}
    assert item.token_ids == by_transformers(template, [*empty, reply])


@pytest.mark.parametrize(
    ("messages", "tools", "named"),
    [
        (ASKED[1:2], [TOOL], "'tools'"),
        ([*ASKED[1:], ASKED[1]], None, "'tool_calls'"),
        ([*ASKED[1:], ASKED[1]], [TOOL], "'tool_calls' and 'tools'"),
    ],
)
def test_a_template_that_leaves_out_what_happened_is_refused(
    messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, named: str
) -> None:
    with pytest.raises(InvalidMessages, match=f"leaves out {named}, so"):
        made(BARE).encode(context(messages, tools), "Yes.")
    assert not made(TOOLS).encode(context(messages, tools), "Yes.").remarks  # the control


def test_a_tool_call_that_is_the_response_is_not_lost_either() -> None:
    with pytest.raises(InvalidMessages, match="'tool_calls'"):
        made(BARE).encode(
            context(ASKED[1:2]), ChatMessage("assistant", "I call.", {"tool_calls": [CALL]})
        )


def test_a_role_that_the_template_skips_is_refused_or_told() -> None:
    system = {"role": "system", "content": "Be kind."}
    item = made(TWO_ROLES).encode(context([system, ASKED[1]]), "Yes.")
    assert [remark.type for remark in item.remarks] == ["template_omits"]
    assert item.remarks[0].message.endswith("leaves out 'name' and the system's message")
    with pytest.raises(InvalidMessages, match="a tool's message"):
        made(TWO_ROLES).encode(context([ASKED[1], {"role": "tool", "content": "rain"}]), "Yes.")
    plain = [system, {"role": "user", "content": "q"}]
    assert made(BARE).encode(context(plain), "Yes.").remarks == ()


def test_arguments_as_a_text_are_handed_over_as_they_are_and_told() -> None:
    """OpenAI's form. This template writes a JSON text as a quoted string."""
    said = {"name": "weather", "arguments": '{"city": "Bergen"}'}
    messages = [ASKED[1], {"role": "assistant", "tool_calls": [{"function": said}]}, ASKED[1]]
    item = made(TOOLS).encode(context(messages), "Yes.")
    reply = {"role": "assistant", "content": "Yes."}
    assert item.token_ids == by_transformers(TOOLS, [*messages, reply])
    assert [remark.type for remark in item.remarks] == ["arguments_quoted"]
    verbatim = TOOLS.replace(
        "{{ {'name': call.name, 'arguments': call.arguments} | tojson }}",
        "{{ call.name + call.arguments }}",
    )
    assert made(verbatim).encode(context(messages), "Yes.").remarks == ()


def test_a_template_that_reads_what_the_check_replaces_is_checked_by_leaving_out() -> None:
    picky = (
        "{% for message in messages %}{% if message.name and message.name != 'ann' %}"
        "{{ raise_exception('who is that?') }}{% endif %}{% endfor %}"
    )
    item = made(picky + BARE).encode(context(ASKED[1:2]), "Yes.")
    assert [remark.message for remark in item.remarks] == [
        "the model's chat template leaves out 'name'"
    ]
    assert made(picky + TOOLS).encode(context(ASKED[1:2]), "Yes.").remarks == ()
    with pytest.raises(InvalidMessages, match="'tools'"):
        made(picky + BARE).encode(context(ASKED[1:2], [TOOL]), "Yes.")


@pytest.mark.parametrize(
    ("template", "reads"),
    [(DATED, True), (DATED_WITH_TOOLS, True), (TOOLS, False), (BARE, False), (None, False)],
)
def test_a_template_that_reads_the_clock_is_found(template: str | None, reads: bool) -> None:
    assert ChatTemplate(tiny_tokenizer(template=template)).reads_clock() is reads


def test_the_clock_of_the_template_stands_still() -> None:
    tokenizer = tiny_tokenizer(template=DATED)
    dated = Renderer(tokenizer, max_length=4096, template_date=date(2024, 2, 29))
    ids = dated.encode(context(ASKED[1:2]), "Yes.").token_ids
    assert "Today Date: 29 Feb 2024<|im_end|>" in str(tokenizer.decode(ids))
    turns = [{"role": "user", "content": "Is it wet?"}, {"role": "assistant", "content": "Yes."}]
    theirs = str(tokenizer.apply_chat_template(turns, tokenize=False))
    assert f"Today Date: {date.today():%d %b %Y}" in theirs
    today = Renderer(tokenizer, max_length=4096).encode(context(ASKED[1:2]), "Yes.").token_ids
    assert today == tuple(tokenizer(theirs, add_special_tokens=False).input_ids)


def test_a_flat_text_and_its_marks_have_the_date_too() -> None:
    tokenizer = tiny_tokenizer(template=DATED)
    dated = Renderer(tokenizer, max_length=4096, template_date=date(2024, 2, 29))
    assert dated.marks().header == "<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_that_draws_at_random_is_not_stable() -> None:
    assert not ChatTemplate(tiny_tokenizer(template=RANDOM)).is_stable()
    assert ChatTemplate(tiny_tokenizer(template=DATED)).is_stable()


def refusal(**item: Any) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        parse(json.dumps({"items": [item]}).encode())
    return str(caught.value)


def test_what_no_message_has_is_refused_by_name() -> None:
    def of(message: dict[str, Any]) -> str:
        return refusal(messages=[message], responses=["Yes."])

    image = {"type": "image_url", "image_url": {"url": "data:"}}
    assert "items[0].messages[0]: unknown field 'weight'" in of(
        {"role": "user", "content": "q", "weight": 0}
    )
    assert "a part of type image_url" in of({"role": "user", "content": [PARTS[0], image]})
    assert "a part of type input_audio" in of(
        {"role": "user", "content": [{"type": "input_audio"}]}
    )
    assert "'content' is required" in of({"role": "user"})
    assert "'content' is required" in of({"role": "tool", "content": None})
    assert "belongs in an assistant's" in of({"role": "user", "content": "q", "tool_calls": [CALL]})
    assert "role" in of({"role": "robot", "content": "q"})
    assert "(name)" in of({"role": "user", "content": "q", "a b": 1})
    assert "goes with 'messages'" in refusal(prompt="p", tools=[TOOL], responses=["Yes."])
    message = {"role": "assistant", "content": "Yes."}
    assert "must be texts" in refusal(prompt="p", responses=[message])
    user = {"role": "user", "content": "q"}
    assert "must be assistant" in refusal(messages=[user], responses=[user])
    assert "finite numbers" in refusal(messages=[user], tools=[{"a": math.nan}], responses=["Yes."])


def test_a_field_that_says_nothing_is_as_good_as_absent() -> None:
    """OpenAI's client and table-shaped data write a null for each field that a row lacks."""
    padding: dict[str, Any] = {
        "name": None,
        "tool_calls": None,
        "tool_call_id": None,
        "reasoning_content": None,
        "refusal": None,
        "annotations": [],
    }
    user = {"role": "user", "content": "q"}
    answer = {"role": "assistant", "content": "Yes.", "tool_calls": []}
    item = {"messages": [user | padding], "tools": [], "responses": [answer | {"refusal": None}]}
    plain = {"messages": [user], "responses": ["Yes."]}
    assert parse(json.dumps({"items": [item]}).encode()) == parse(
        json.dumps({"items": [plain]}).encode()
    )
