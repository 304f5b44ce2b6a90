"""Texts that begin alike have the ids of the whole text, whatever the tokeniser does to white space
and letters; and a text that is too long is known to be so early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from candor.text.conversation import Conversation
from candor.text.render import Renderer
from candor.text.request import ChatMessage, Messages
from candor.text.tokenise import PIECE_CHARS, SharedStart, Tokeniser
from tests.tiny import END, START, tiny_tokenizer

SENTENCES = ["The sea is blue and the poem is good.", "user assistant \u00e9t\u00e9 \u6d77\u662f"]


def metaspace(scheme: str, normalizer: object, **token: bool) -> PreTrainedTokenizerBase:
    """A tokeniser of the sentencepiece kind, with `<|im_start|>` and `<|im_end|>` added."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.add_special_tokens([AddedToken(text, **token) for text in (START, END)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


MADE: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "bytes": tiny_tokenizer,
    "bytes with a BOS": lambda: tiny_tokenizer(bos=True),
    "metaspace first": lambda: metaspace("first", normalizers.NFC()),
    "metaspace always": lambda: metaspace("always", normalizers.NFKC()),
    "no prefix": lambda: metaspace("never", normalizers.Lowercase()),
    "strips left": lambda: metaspace("first", normalizers.NFKC(), lstrip=True),
    "strips right": lambda: metaspace("first", normalizers.NFKC(), rstrip=True),
    "words": lambda: metaspace("first", normalizers.NFKC(), single_word=True),
    "normalised": lambda: metaspace("first", normalizers.NFKC(), normalized=True),
}
TOKENISERS = {name: Tokeniser(make()) for name, make in MADE.items()}
TEXT = st.text(
    st.one_of(
        st.sampled_from(list(" \n\t the sea<|im_end>_\u0301\u00e9\u6d77\ufb01\U0001f30a\u200d")),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=30,
)
PIECES = st.lists(st.one_of(TEXT, st.sampled_from([START, END, "assistant\n", " "])), max_size=6)


@settings(max_examples=150, deadline=None)
@given(start=PIECES, rests=st.lists(PIECES, min_size=4, max_size=6))
@pytest.mark.parametrize("name", TOKENISERS)
def test_texts_that_begin_alike_have_the_ids_of_the_whole(
    name: str, start: list[str], rests: list[list[str]]
) -> None:
    tokeniser, begin = TOKENISERS[name], "".join(start)
    shared = SharedStart(tokeniser, begin)
    shared.CHECKED = 0  # what the check would hide
    for rest in rests:
        text = begin + "".join(rest)
        assert shared.encode(text) == tokeniser.whole(text)


def test_a_shared_start_is_tokenised_once() -> None:
    """The control of the test above: something is reused."""
    tokeniser = TOKENISERS["bytes"]
    sizes: list[int] = []
    counted = Tokeniser(tiny_tokenizer())
    counted._encode = lambda text: sizes.append(len(text)) or tokeniser._encode(text)  # type: ignore
    renderer = Renderer(tiny_tokenizer(), max_length=100_000)
    wording = replace(renderer.wording, tokeniser=counted)
    conversation = Conversation(wording, Messages((ChatMessage("user", "sea " * 500),)))
    for number in range(8):
        conversation.encode(f"It is good {number}.")
    assert [size > 2000 for size in sizes].count(True) == 1 + SharedStart.CHECKED
    assert max(sizes[-5:]) < 60


def test_a_start_that_fails_the_check_is_not_used() -> None:
    tokeniser = Tokeniser(tiny_tokenizer())
    shared = SharedStart(tokeniser, f"{START}user\n")
    shared.encode(f"{START}user\nThe sea")
    shared._kept = [7], [(0, 1)]
    for text in ("The poem", "The sea", "is"):
        whole = f"{START}user\n{text}"
        assert shared.encode(whole) == tokeniser.whole(whole)


@pytest.mark.parametrize("text", ["a", " ", "sea ", "\U0001f30a", "\n", "The sea is blue. "])
def test_a_text_over_the_window_is_known_before_it_is_tokenised_whole(text: str) -> None:
    tokeniser = TOKENISERS["bytes"]
    long = text * (6 * PIECE_CHARS // len(text))
    num_tokens = len(tokeniser.whole(long)[0])
    assert tokeniser.exceeds(long, num_tokens // 2)
    assert not tokeniser.exceeds(long, num_tokens)
    kept = tokeniser.tail(long, num_tokens // 3)
    assert num_tokens // 3 <= len(tokeniser.whole(long[-kept:])[0]) < num_tokens * 2 // 3


@pytest.mark.parametrize("unit", ["The sea is blue. ", "poem\n", "a" * 50 + " "])
def test_left_truncation_keeps_what_it_would_keep_of_the_whole(unit: str) -> None:
    tokenizer = tiny_tokenizer(template_bos=True)
    renderer = Renderer(tokenizer, max_length=700)
    user = Messages((ChatMessage("user", unit * (400_000 // len(unit))),))
    item = renderer.encode(user, "It is good.", truncation="left")
    text = tokenizer.apply_chat_template(
        [
            {"role": "user", "content": user.turns[0].content},
            {"role": "assistant", "content": "It is good."},
        ],
        tokenize=False,
    )
    whole = tokenizer(text, add_special_tokens=False).input_ids
    if len(text) > 32 * 700:
        whole = tokenizer(text[-32 * 700 :], add_special_tokens=False).input_ids
    assert item.token_ids == (tokenizer.bos_token_id, *whole[-699:])
    assert item.truncated
