"""Rendering compared with tokenising by hand: a real tokeniser, and templates for each case."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors
from transformers import PreTrainedTokenizerBase

from candor.errors import EmptyResponse, InvalidMessages, InvalidRequest, TooLong
from candor.item import Item
from candor.text.conversation import CHARS_PER_TOKEN
from candor.text.render import Renderer
from candor.text.request import ChatMessage, Context, Messages, Text, Truncation
from tests.service.text.templates import TOOLS
from tests.tiny import ALTERNATING, BOS, STRIPPING, TURNS, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
QUESTION = Messages((ChatMessage("user", "What do you think of this poem?"),))
HEAD = "<|im_start|>user\nWhat do you think of this poem?<|im_end|>\n<|im_start|>assistant\n"
TAIL = "<|im_end|>\n"
ANSWER = "I think it is very good."

THINKING = TURNS.replace(
    "message['content'] +",
    "('<think>\n' + message['content'].split('</think>')[0].split('<think>')[1].strip()"
    " + '\n</think>\n\n' + message['content'].split('</think>')[1].strip()"
    " if '</think>' in message['content'] else"
    " '<think>\n\n</think>\n\n' + message['content'] "
    " if loop.last and message['role'] == 'assistant' else message['content']) +",
)
"""Puts a reasoning block before the last turn: the block in its content, if there is one."""


def renderer(tokenizer: PreTrainedTokenizerBase = TOKENIZER, **options: Any) -> Renderer:
    return Renderer(tokenizer, **({"max_length": 256} | options))


def tokens(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER(text, add_special_tokens=False).input_ids)


def response_text(item: Item) -> str:
    return str(TOKENIZER.decode(item.token_ids[item.response_start : item.response_end]))


def test_messages_are_templated_and_the_response_located() -> None:
    item = renderer().encode(QUESTION, ANSWER)
    assert item.token_ids == tokens(HEAD) + tokens(ANSWER) + tokens(TAIL)
    assert item.response_start == len(tokens(HEAD))
    assert item.response_end == len(tokens(HEAD)) + len(tokens(ANSWER))
    assert not item.truncated
    assert item.offsets == ()


def test_messages_render_as_the_tokeniser_renders_them() -> None:
    turns = [{"role": "user", "content": str(QUESTION.turns[0].content)}]
    turns.append({"role": "assistant", "content": ANSWER})
    by_transformers = TOKENIZER.apply_chat_template(turns, tokenize=True, return_dict=False)
    assert list(renderer().encode(QUESTION, ANSWER).token_ids) == by_transformers


def test_a_prompt_is_used_as_it_is() -> None:
    item = renderer().encode(Text(HEAD), ANSWER + TAIL)
    assert item.token_ids == tokens(HEAD + ANSWER + TAIL)
    assert item.response_start == len(tokens(HEAD))
    assert item.response_end == item.num_tokens


def test_a_token_over_the_border_belongs_to_the_response() -> None:
    whole = tokens("the poem")
    assert len(whole) < len(tokens("the po")) + len(tokens("em"))
    item = renderer().encode(Text("the po"), "em", want_tokens=True)
    assert item.token_ids == whole
    assert response_text(item) == " poem"
    assert item.offsets == ((0, 2),)


def test_an_empty_context_is_allowed_as_text() -> None:
    item = renderer().encode(Text(""), ANSWER)
    assert (item.response_start, item.response_end) == (0, len(tokens(ANSWER)))


@pytest.mark.parametrize("context", [QUESTION, Text(HEAD)])
def test_an_empty_response_is_refused(context: Context) -> None:
    with pytest.raises(EmptyResponse):
        renderer().encode(context, "")


@pytest.mark.parametrize("context", [QUESTION, Text(HEAD)])
def test_a_response_of_white_space_is_a_response(context: Context) -> None:
    item = renderer().encode(context, "   ")
    assert item.response_end > item.response_start


def test_a_response_that_the_template_strips_to_nothing_is_refused() -> None:
    stripping = renderer(tiny_tokenizer(template=STRIPPING))
    with pytest.raises(EmptyResponse):
        stripping.encode(QUESTION, " \n ")


def test_a_token_of_the_template_alone_is_not_the_response() -> None:
    """The response is stripped to nothing inside `the po|em`, and one token crosses its place."""
    template = "{% for m in messages %}{{ 'the po' + m['content'] | trim + 'em' }}{% endfor %}"
    around = renderer(tiny_tokenizer(template=template))
    assert response_text(around.encode(QUESTION, " x ")) == "x"
    with pytest.raises(EmptyResponse):
        around.encode(QUESTION, "  ")


@pytest.mark.parametrize("context", ["messages", "prompt"])
@pytest.mark.parametrize("by_template", [True, False])
@pytest.mark.parametrize("by_tokenizer", [True, False])
def test_there_is_never_a_double_bos(by_template: bool, by_tokenizer: bool, context: str) -> None:
    tokenizer = tiny_tokenizer(bos=by_tokenizer, template_bos=by_template)
    text = (BOS if by_template else "") + HEAD
    item = renderer(tokenizer).encode(QUESTION if context == "messages" else Text(text), ANSWER)
    bos = tokens(BOS) if by_template or by_tokenizer else ()
    tail = tokens(TAIL) if context == "messages" else ()
    assert item.token_ids == bos + tokens(HEAD) + tokens(ANSWER) + tail
    assert response_text(item) == ANSWER


@pytest.mark.parametrize(
    ("ending", "tail"), [("template", TAIL), ("end_token", "<|im_end|>"), ("none", "")]
)
def test_the_text_ends_as_the_model_was_trained(ending: str, tail: str) -> None:
    item = renderer(ending=ending).encode(QUESTION, ANSWER)
    assert item.token_ids == tokens(HEAD + ANSWER + tail)
    assert response_text(item) == ANSWER


@pytest.mark.parametrize(
    "response",
    [
        "<|im_end|>\n<|im_start|>assistant\n",
        "one<|im_end|>\n<|im_start|>assistant\ntwo",
        "i",
        "\n",
        "CandorResponseGoesHere",
        QUESTION.turns[0].content,
    ],
)
def test_a_response_with_template_text_in_it_is_located_exactly(response: str) -> None:
    item = renderer().encode(QUESTION, response, want_tokens=True)
    assert item.token_ids == tokens(HEAD + response + TAIL)
    assert response_text(item).endswith(response)
    assert (item.offsets[0][0], item.offsets[-1][1]) == (0, len(response))


def test_a_context_that_holds_the_stand_in_does_not_mislead() -> None:
    question = Messages((ChatMessage("user", "CandorResponseGoesHere"),))
    assert response_text(renderer().encode(question, ANSWER)) == ANSWER


def test_offsets_count_from_the_response_also_when_the_template_strips_it() -> None:
    stripping = renderer(tiny_tokenizer(template=STRIPPING))
    item = stripping.encode(QUESTION, "  good\n", want_tokens=True)
    assert item.token_ids == tokens(HEAD + "good" + TAIL)
    assert response_text(item) == "good"
    assert (item.offsets[0][0], item.offsets[-1][1]) == (2, 6)


def test_what_the_template_puts_before_a_response_is_not_part_of_it() -> None:
    item = renderer(tiny_tokenizer(template=THINKING)).encode(QUESTION, "think", want_tokens=True)
    assert item.token_ids == tokens(HEAD + "<think>\n\n</think>\n\nthink" + TAIL)
    assert response_text(item) == "think"
    assert item.offsets[-1][1] == 5


def test_a_response_the_template_rewrites_is_whatever_follows_the_generation_prompt() -> None:
    thinking = renderer(tiny_tokenizer(template=THINKING))
    response = "<think>it is short</think>  good"
    item = thinking.encode(QUESTION, response)
    assert response_text(item) == "<think>\nit is short\n</think>\n\ngood"
    with pytest.raises(InvalidMessages, match="rewrites"):
        thinking.encode(QUESTION, response, want_tokens=True)


def test_every_token_of_an_emoji_has_the_emoji_as_its_span() -> None:
    item = renderer().encode(QUESTION, "a🙂b", want_tokens=True)
    assert item.offsets == ((0, 1), (1, 2), (1, 2), (1, 2), (1, 2), (2, 3))


def test_a_tokeniser_that_trims_its_offsets_still_covers_white_space() -> None:
    trimming = tiny_tokenizer()
    trimming.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    assert trimming("the  poem", return_offsets_mapping=True).offset_mapping[-1][0] == 5
    assert TOKENIZER("the  poem", return_offsets_mapping=True).offset_mapping[-1][0] == 4
    item = renderer(trimming).encode(QUESTION, "good  ", want_tokens=True)
    assert item.token_ids == renderer().encode(QUESTION, "good  ").token_ids
    assert response_text(item) == "good  "
    assert item.offsets[-1][1] == 6


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
pieces = st.lists(
    st.one_of(texts, st.sampled_from(["<|im_end|>\n", "<|im_start|>assistant\n", " ", "\n", "🙂"])),
    min_size=1,
    max_size=5,
).map("".join)


@given(response=pieces)
def test_any_response_is_found_whole_and_its_offsets_cover_it(response: str) -> None:
    item = renderer(max_length=4096).encode(QUESTION, response, want_tokens=True)
    assert item.token_ids == tokens(HEAD + response + TAIL)
    assert response in response_text(item)
    assert (item.offsets[0][0], item.offsets[-1][1]) == (0, len(response))
    assert len(item.offsets) == item.response_end - item.response_start
    for (_, before), (start, end) in zip(item.offsets, item.offsets[1:], strict=False):
        assert start <= before <= end


def test_over_the_window_is_refused_and_says_the_numbers() -> None:
    num_tokens = renderer().encode(QUESTION, ANSWER).num_tokens
    assert renderer(max_length=num_tokens).encode(QUESTION, ANSWER).num_tokens == num_tokens
    with pytest.raises(TooLong, match=f"{num_tokens} tokens and the model takes {num_tokens - 1}"):
        renderer(max_length=num_tokens - 1).encode(QUESTION, ANSWER)


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("drop", [1, 7])
def test_left_truncation_drops_the_oldest_context_and_keeps_the_rest(drop: int, bos: bool) -> None:
    tokenizer = tiny_tokenizer(bos=bos)
    whole = renderer(tokenizer).encode(QUESTION, ANSWER, want_tokens=True)
    window = whole.num_tokens - drop
    item = renderer(tokenizer, max_length=window).encode(
        QUESTION, ANSWER, truncation="left", want_tokens=True
    )
    assert item.truncated
    assert item.num_tokens == window
    assert item.token_ids == whole.token_ids[:bos] + whole.token_ids[bos + drop :]
    assert response_text(item) == ANSWER
    assert item.offsets == whole.offsets


def test_left_truncation_of_what_fits_changes_nothing() -> None:
    left = renderer().encode(QUESTION, ANSWER, truncation="left")
    assert left == renderer().encode(QUESTION, ANSWER)


@pytest.mark.parametrize("bos", [True, False])
def test_a_response_is_never_cut(bos: bool) -> None:
    tokenizer = tiny_tokenizer(bos=bos)
    needed = len(tokens(ANSWER + TAIL)) + bos
    item = renderer(tokenizer, max_length=needed).encode(QUESTION, ANSWER, truncation="left")
    assert item.token_ids == tokens(BOS if bos else "") + tokens(ANSWER + TAIL)
    with pytest.raises(TooLong, match="never cut"):
        renderer(tokenizer, max_length=needed - 1).encode(QUESTION, ANSWER, truncation="left")


@pytest.mark.parametrize("truncation", ["error", "left"])
def test_too_many_characters_are_refused_before_they_are_tokenised(
    truncation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = renderer(max_length=8)

    def never(text: str) -> Any:
        raise AssertionError(f"tokenised {len(text)} characters")

    monkeypatch.setattr(small.wording.tokeniser, "_encode", never)
    with pytest.raises(TooLong, match="characters"):
        small.encode(QUESTION, "a" * (8 * CHARS_PER_TOKEN + 1), truncation=truncation)
    with pytest.raises(AssertionError, match=r"tokenised \d\d\d? characters"):
        small.encode(Text("b" * (8 * CHARS_PER_TOKEN - 1)), "a", truncation=truncation)


def test_left_truncation_cuts_a_huge_context_before_it_is_tokenised() -> None:
    tokenizer = tiny_tokenizer(template_bos=True)
    small = renderer(tokenizer, max_length=40)
    question = Messages((ChatMessage("user", "b" * 100_000),))
    item = small.encode(question, "good", truncation="left", want_tokens=True)
    assert item.truncated
    assert item.num_tokens == 40
    assert item.token_ids[0] == tokenizer.bos_token_id
    assert response_text(item) == "good"
    assert item.offsets[-1][1] == 4
    with pytest.raises(TooLong, match="characters"):
        small.encode(question, "good")


def test_messages_the_template_refuses_are_named_without_its_words() -> None:
    alternating = renderer(tiny_tokenizer(template=ALTERNATING))
    assert response_text(alternating.encode(QUESTION, ANSWER)) == ANSWER
    with pytest.raises(InvalidMessages) as caught:
        alternating.encode(Messages((*QUESTION.turns, ChatMessage("user", "secret"))), ANSWER)
    assert "secret" not in caught.value.message
    assert "alternate" not in caught.value.message
    assert "jinja" not in caught.value.message.lower()


@pytest.mark.parametrize(
    "template", ["{{ messages[9].content }}{{ 1 / 0 }}", "{{ undefined_thing() }}", "{% if %}"]
)
def test_whatever_a_template_raises_is_invalid_messages(template: str) -> None:
    with pytest.raises(InvalidMessages):
        renderer(tiny_tokenizer(template=template)).encode(QUESTION, ANSWER)


def test_a_template_that_drops_the_response_is_refused() -> None:
    with pytest.raises(InvalidMessages, match="drops"):
        renderer(tiny_tokenizer(template="{{ messages[0].content }}")).encode(QUESTION, ANSWER)


def test_without_a_chat_template_only_text_can_be_scored() -> None:
    bare = renderer(tiny_tokenizer(template=None))
    assert response_text(bare.encode(Text(HEAD), ANSWER)) == ANSWER
    with pytest.raises(InvalidMessages, match="no chat template"):
        bare.encode(QUESTION, ANSWER)


CLOSED = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"


@pytest.mark.parametrize(
    "prompt",
    [CLOSED, CLOSED + "<|im_start|>user\nand?<|im_end|>\n", CLOSED + "[INST] and? [/INST]"],
)
def test_a_prompt_whose_last_assistant_turn_has_ended_is_refused(prompt: str) -> None:
    """The template's turn stands in the middle only, so the response would stand in none."""
    renderer = Renderer(tiny_tokenizer(), max_length=256)
    with pytest.raises(InvalidRequest, match=r'has ended.*"templated": true'):
        renderer.encode(Text(prompt, is_meant=False), "no")
    renderer.encode(Text(prompt), "no")


@pytest.mark.parametrize("end", ["<|im_start|>assistant\n", "<|im_start|>assistant\nI think"])
def test_control_an_open_turn_may_have_a_prefill_and_turns_before_it(end: str) -> None:
    renderer = Renderer(tiny_tokenizer(), max_length=256)
    prompt = CLOSED + "<|im_start|>user\nand?<|im_end|>\n" + end
    turns = [("user", "q"), ("assistant", "yes"), ("user", "and?")]
    chat = Messages(tuple(ChatMessage(*turn) for turn in turns))
    found = renderer.encode(Text(prompt, is_meant=False), " no")
    assert found == renderer.encode(Text(prompt), " no")
    if end.endswith("\n"):
        served = renderer.encode(chat, " no")
        assert found.token_ids == served.token_ids[: len(found.token_ids)]


@pytest.mark.parametrize("truncation", ["error", "left"])
def test_work_that_no_text_shows_is_bounded_before_the_template_runs(
    truncation: Truncation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages without text, and what stands in tools and tool calls."""
    renderer = Renderer(tiny_tokenizer(template=TOOLS), max_length=64)
    monkeypatch.setattr(renderer.wording.template, "render", None)
    user, call = ChatMessage("user", "q"), {"function": {"name": "f", "arguments": "a" * 3000}}
    for context in (
        Messages((ChatMessage("user", ""),) * 65),
        Messages((user,), tools=({"name": "f", "description": "d" * 3000},)),
        Messages((user, ChatMessage("assistant", None, {"tool_calls": [call]}), user)),
    ):
        with pytest.raises(TooLong):
            renderer.encode(context, "no", truncation=truncation)
    reply = ChatMessage("assistant", None, {"tool_calls": [call]})
    with pytest.raises(TooLong):
        renderer.encode(Messages((user,)), reply, truncation=truncation)


def test_control_a_conversation_of_as_many_messages_as_tokens_is_cut_from_the_left() -> None:
    renderer = Renderer(tiny_tokenizer(), max_length=64)
    chat = Messages((ChatMessage("user", "q"),) * 64)
    assert renderer.encode(chat, "no", truncation="left").num_tokens == 64
