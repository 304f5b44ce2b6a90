"""Flat templated text gives the same tokens and the same span as the messages it was made from,
whatever the policy's tokeniser left around it."""

from __future__ import annotations

import time

import pytest

from candor.errors import EmptyResponse, InvalidRequest
from candor.text.render import Renderer
from candor.text.request import ChatMessage, Context, Group, Messages, OpenTurn, Text
from candor.text.turns import Marks, from_pair, split, without_end
from tests.paths import ROOT
from tests.tiny import ALTERNATING, BOS, EOS, STRIPPING, TURNS, tiny_tokenizer

TEMPLATES = ROOT / "jobs" / "candor" / "jobs" / "model" / "templates"
PUBLISHED = {path.stem: path.read_text() for path in TEMPLATES.iterdir()}
LLAMA2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
"""Has no generation prompt, and strips the content."""
REASONING = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' and loop.last and '</think>' not in message['content'] %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Writes an empty thought before a last reply that has none, as Qwen3's does."""
OPENING = TURNS.replace("'<|im_start|>assistant\n' }}", "'<|im_start|>assistant\n<think>\n' }}")
"""Opens a thought in the generation prompt alone, as DeepSeek-R1's does."""
ALL = {
    "turns": TURNS,
    "alternating": ALTERNATING,
    "stripping": STRIPPING,
    "llama2": LLAMA2,
    "reasoning": REASONING,
    "opening": OPENING,
    **PUBLISHED,
}
CHAT = Messages(
    (
        ChatMessage("user", "Is the sea blue?"),
        ChatMessage("assistant", "Yes, it is."),
        ChatMessage("user", "Is this poem good?"),
    )
)
REPLY = "I think it is very good."


def renderer(template: str | None, *, bos: bool = False, template_bos: bool = False) -> Renderer:
    tokenizer = tiny_tokenizer(bos=bos, template_bos=template_bos, template=template)
    return Renderer(tokenizer, max_length=256)


def as_text(made: Renderer, messages: Messages, reply: str) -> str:
    """The text that a trainer sends: decoded by the policy's tokeniser, which is the same here."""
    return made.decode(made.encode(messages, reply).token_ids)


def encoded(made: Renderer, group: Group) -> tuple[tuple[int, ...], int, int]:
    (response,) = group.responses
    return spoken(made, group.context, response)


def spoken(made: Renderer, context: Context, reply: str) -> tuple[tuple[int, ...], int, int]:
    item = made.encode(context, reply)
    return item.token_ids, item.response_start, item.response_end


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("bos", "template_bos"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("num_turns", [1, 3])
def test_flat_text_has_the_tokens_and_the_span_of_the_messages(
    name: str, bos: bool, template_bos: bool, num_turns: int
) -> None:
    # Some of the templates write a BOS anyway.
    made = renderer(ALL[name], bos=bos, template_bos=template_bos and "bos_token" not in ALL[name])
    marks = made.marks()
    messages = Messages(CHAT.turns[-num_turns:])
    expected = spoken(made, messages, REPLY)
    text = as_text(made, messages, REPLY)
    for sent in (
        text,
        EOS * 3 + text,  # left pads
        BOS + text,  # a second BOS
        EOS + BOS + text + EOS * 2,
        text.removeprefix(BOS),  # verl cuts it off
        text.rstrip(),
    ):
        item = split(sent, marks)
        assert isinstance(item.context, OpenTurn)
        assert encoded(made, item) == expected


@pytest.mark.parametrize("name", [name for name in ALL if name != "opening"])
def test_a_prompt_apart_gives_the_same(name: str) -> None:
    made = renderer(ALL[name])
    marks = made.marks()
    text = as_text(made, CHAT, REPLY)
    prompt = text[: text.index(REPLY)]
    expected = spoken(made, CHAT, REPLY)
    assert encoded(made, split(text, marks, prompt=prompt)) == expected
    assert encoded(made, split(EOS * 2 + text, marks, prompt=prompt)) == expected
    (item,) = from_pair(prompt, [text[len(prompt) :]], marks)
    assert encoded(made, item) == expected


def test_a_reply_that_was_cut_off_is_ended_as_messages_are() -> None:
    made = renderer(TURNS)
    text = as_text(made, CHAT, "I think it")
    cut = text[: text.rindex("<|im_end|>")]
    assert encoded(made, split(cut, made.marks())) == spoken(made, CHAT, "I think it")


def test_a_thought_that_the_generation_prompt_opens_belongs_to_the_reply() -> None:
    made = renderer(OPENING)
    prompt = "<|im_start|>user\nGood?<|im_end|>\n<|im_start|>assistant\n<think>\n"
    item = split(f"{prompt}Hm.</think>Yes.<|im_end|>", made.marks(), prompt=prompt)
    assert item.responses == ("<think>\nHm.</think>Yes.",)


def test_with_its_prompt_a_turn_that_the_policy_writes_moves_nothing() -> None:
    marks = renderer(TURNS).marks()
    prompt = "<|im_start|>user\nGood?<|im_end|>\n<|im_start|>assistant\n"
    reply = "I love it<|im_end|>\n<|im_start|>assistant\nYes."
    told = split(prompt + reply, marks, prompt=prompt)
    assert told.responses == (reply,)
    assert split(prompt + reply, marks).responses == ("Yes.",)


def test_a_prompt_of_another_template_is_not_taken_apart_at_an_earlier_turn() -> None:
    marks = renderer(TURNS).marks()
    earlier = "<|im_start|>user\nA?<|im_end|>\n<|im_start|>assistant\nB.<|im_end|>\n"
    prompt = earlier + "<|other|>C?<|reply|>"
    with pytest.raises(InvalidRequest, match="another chat template"):
        split(prompt + "D.", marks, prompt=prompt)
    told = split(prompt + "D.", marks, prompt=prompt, marker="<|reply|>")
    assert told == Group(Text(prompt), ("D.",))


def test_a_prompt_that_is_not_there_is_not_believed() -> None:
    """OpenRLHF cuts the start of a long prompt in `query`, and sends it whole in `prompts`."""
    made = renderer(TURNS)
    marks = made.marks()
    text = as_text(made, CHAT, REPLY)
    whole = text[: text.index(REPLY)]
    item = split(text[10:], marks, prompt=whole)
    assert isinstance(item.context, OpenTurn)
    assert item.responses == (REPLY,)
    with pytest.raises(InvalidRequest, match="does not begin with its prompt"):
        split("Human: a\nAssistant: b", marks, prompt="Something else")


@pytest.mark.parametrize(
    ("template", "says"), [(None, "no chat template"), (TURNS, "no assistant turn")]
)
def test_where_nothing_tells_the_span_is_asked_for(template: str | None, says: str) -> None:
    marks = renderer(template).marks()
    with pytest.raises(InvalidRequest, match=says) as caught:
        split("Human: a\nAssistant: b", marks)
    assert "--turn-marker" in caught.value.message


def test_raw_text_loses_pads_and_a_doubled_bos_and_keeps_one_end_token() -> None:
    marks = Marks(bos="<s>", eos="</s>", pad="<pad>")
    item = split("<pad><s><s>Q: a A: b</s><pad>", marks, prompt="<s>Q: a A:")
    assert item == Group(Text("<s>Q: a A:"), (" b</s>",))
    item = split("Q: a A: b<pad><pad>", marks, marker="A:")
    assert item == Group(Text("Q: a A:"), (" b",))


def test_a_reply_of_end_tokens_alone_is_empty() -> None:
    made = renderer(TURNS)
    text = "<|im_start|>user\nGood?<|im_end|>\n<|im_start|>assistant\n<|im_end|>"
    item = split(text, made.marks())
    assert item.responses == ("",)
    with pytest.raises(EmptyResponse):
        encoded(made, item)


def test_only_end_tokens_go_and_the_replys_own_white_space_stays() -> None:
    marks = Marks(end="<|im_end|>", eos="</s>", pad="<pad>")
    assert without_end("a \n", marks) == "a \n"
    assert without_end("a <|im_end|>\n", marks) == "a "
    assert without_end("a</s> <|im_end|>\n<pad><pad>", marks) == "a"
    assert without_end("</s>a", marks) == "</s>a"


def test_a_plain_text_is_a_user_where_there_is_a_template_and_raw_where_there_is_none() -> None:
    (said,) = from_pair("Is it good?", ["Yes.<|im_end|>", "No."], renderer(TURNS).marks())
    assert said == Group(Messages((ChatMessage("user", "Is it good?"),)), ("Yes.", "No."))
    items = from_pair("Is it good?", ["Yes.", "No."], renderer(None).marks())
    assert items == [
        Group(Text("Is it good?"), ("Yes.",)),
        Group(Text("Is it good?"), ("No.",)),
    ]
    (marked,) = from_pair("Human: a AI:", ["b"], renderer(TURNS).marks(), marker="AI:")
    assert marked == Group(Text("Human: a AI:"), ("b",))


def test_a_million_ends_are_taken_off_in_time_that_grows_with_their_number() -> None:
    marks = Renderer(tiny_tokenizer(), max_length=256).marks()
    began = time.monotonic()
    assert without_end("no" + "<|im_end|> " * 1_000_000, marks) == "no"
    assert time.monotonic() - began < 20
