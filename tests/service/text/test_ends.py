"""A policy's text, in the shape of real models' templates: scored as the same messages are, with
any end of a turn, with none, and with pads behind it."""

from __future__ import annotations

import pytest

from candor.errors import InvalidMessages
from candor.item import Item
from candor.text.render import Renderer
from candor.text.request import ChatMessage, Group, Messages
from candor.text.turns import from_pair, split
from candor.text.writing import AS_WRITTEN
from tests.service.text.templates import (
    COHERE,
    GEMMA,
    GPT_OSS,
    LLAMA3,
    NEMOTRON,
    PHI3,
    QWEN3,
    SPECIAL,
)
from tests.tiny import TURNS, tiny_tokenizer

CHAT = Messages(
    (
        ChatMessage("user", "Is the sea blue?"),
        ChatMessage("assistant", "Yes, it is."),
        ChatMessage("user", "Is this poem good?"),
    )
)
REPLY = "I think it is very good."
THOUGHT = "<think>\nHm, the sea.\n</think>\n\nYes, very."

ENDS = {
    "phi3": (PHI3, ["<|end|>", "<|end|>\n", "<|end|>\n<|endoftext|>", "<|endoftext|>"]),
    "cohere": (
        COHERE,
        ["<|END_RESPONSE|>", "<|END_RESPONSE|><|END_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"],
    ),
    "gemma": (GEMMA, ["<end_of_turn>", "<end_of_turn>\n"]),
    "llama3": (LLAMA3, ["<|eot_id|>", "<|eom_id|>"]),
    "nemotron": (NEMOTRON, ["<|im_end|>", "<|im_end|>\n"]),
    "qwen3": (QWEN3, ["<|im_end|>", "<|im_end|>\n"]),
    "gpt-oss": (GPT_OSS, ["<|return|>", "<|end|>"]),
    "chatml": (TURNS, ["<|im_end|>", "<|im_end|>\n"]),
}
CASES = [(name, end) for name, (_, ends) in ENDS.items() for end in [*ends, ""]]
PROMPT_ENDS = {"nemotron": "<think></think>", "cohere": "<|START_RESPONSE|>"}
"""What stands between generation prompt and reply where the policy does not think."""


def made(template: str) -> Renderer:
    tokenizer = tiny_tokenizer(template=template)
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.pad_token = "<pad>"
    return Renderer(tokenizer, max_length=4096)


def prompt_of(rendering: Renderer, messages: Messages = CHAT) -> str:
    return rendering.wording.template.render(messages.turns, add_generation_prompt=True)


def encoded(rendering: Renderer, group: Group) -> Item:
    (response,) = group.responses
    return rendering.encode(group.context, response)


@pytest.mark.parametrize("pads", ["", "<pad>" * 3, "</s><pad>"])
@pytest.mark.parametrize(("name", "end"), CASES)
def test_every_end_of_a_turn_is_an_end(name: str, end: str, pads: str) -> None:
    rendering = made(ENDS[name][0])
    prompt = prompt_of(rendering)
    if name == "nemotron":  # its prompt without thinking
        prompt = prompt.removesuffix("<think>\n")
    if name == "gpt-oss":
        prompt += "<|channel|>final<|message|>"
    written = PROMPT_ENDS.get(name, "") + REPLY + end + pads.replace("</s>", "<|im_end|>")
    expected = rendering.encode(CHAT, REPLY)
    marks = rendering.marks()
    assert encoded(rendering, split(prompt + written, marks)) == expected
    assert encoded(rendering, split(prompt + written, marks, prompt=prompt)) == expected
    (pair,) = from_pair(prompt, [written], marks)
    assert encoded(rendering, pair) == expected
    (said,) = from_pair(CHAT, [written], marks)
    assert encoded(rendering, said) == expected


def test_an_end_is_a_token_and_not_its_beginning() -> None:
    """The control: what only looks like an end, or stands inside, is the policy's own."""
    rendering = made(PHI3)
    prompt = prompt_of(rendering)
    for reply in ("I see <|end", "<|end|> said he", "the end", "Yes <|im_start|>"):
        group = split(prompt + reply + "<|end|>", rendering.marks())
        assert group.responses == (reply,)


@pytest.mark.parametrize("name", ["nemotron", "qwen3"])
@pytest.mark.parametrize("reply", [THOUGHT, "<think>\nHm, the sea", "<think>\n\n</think>\n\nYes."])
def test_a_thinking_reply_is_scored_as_the_same_messages(name: str, reply: str) -> None:
    template, ends = ENDS[name]
    rendering = made(template)
    prompt, marks = prompt_of(rendering), rendering.marks()
    expected = rendering.encode(CHAT, reply)
    text = prompt.removesuffix("<think>\n") + reply + ends[0]
    assert text.startswith(prompt)
    assert encoded(rendering, split(text, marks)) == expected
    assert encoded(rendering, split(text, marks, prompt=prompt)) == expected
    assert encoded(rendering, from_pair(prompt, [text[len(prompt) :]], marks)[0]) == expected


def test_a_reply_in_several_channels_is_scored_as_the_message_with_its_reasoning() -> None:
    rendering = made(GPT_OSS)
    prompt, marks = prompt_of(rendering), rendering.marks()
    written = (
        "<|channel|>analysis<|message|>Hm, the sea.<|end|>"
        "<|start|>assistant<|channel|>final<|message|>Yes, very."
    )
    message = ChatMessage("assistant", "Yes, very.", {"thinking": "Hm, the sea."})
    expected = rendering.encode(CHAT, message)
    for end in ("<|return|>", "<|return|><pad>", ""):
        text = prompt + written + end
        for group in (
            split(text, marks),
            split(text, marks, prompt=prompt),
            *from_pair(prompt, [written + end], marks),
            *from_pair(CHAT, [written + end], marks),
        ):
            item = encoded(rendering, group)
            assert item == expected
            assert AS_WRITTEN in item.remarks


def test_a_reply_that_a_template_refuses_is_refused_where_no_policy_wrote_it() -> None:
    with pytest.raises(InvalidMessages):
        made(GPT_OSS).encode(CHAT, "<|channel|>analysis<|message|>Hm.")
