"""Samples of a policy in training: the same as one by one, and no trace left in the run."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from candor.jobs.generator import groups
from candor.jobs.generator.groups import Sampling, draw, sample_groups, split_opening, stop_ids
from candor.jobs.running.files import Row
from tests.jobs.generator.tiny_lm import tiny_lm
from tests.tiny import tiny_tokenizer

ROWS: list[Row] = [
    {"key": str(i), "messages": [{"role": "user", "content": text}]}
    for i, text in enumerate(("hi", "What is the sea, and is the poem good?", "yes"))
]

ENDS = frozenset({3})
"""The tiny model's end token."""


def one_by_one(model: Any, tokenizer: Any, row: Row, max_tokens: int) -> str:
    """Greedy, alone, unpadded, by `generate` itself."""
    inputs = tokenizer.apply_chat_template(
        row["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    out = model.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=max_tokens,
        pad_token_id=tokenizer.pad_token_id,
    )
    return str(tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


@pytest.mark.parametrize("max_rows", [64, 3], ids=["one batch", "a batch a prompt"])
def test_padded_prompts_with_a_shared_pass_say_what_each_says_alone(
    monkeypatch: pytest.MonkeyPatch, max_rows: int
) -> None:
    monkeypatch.setattr(groups, "MAX_ROWS", max_rows)
    model, tokenizer = tiny_lm(), tiny_tokenizer()
    almost_greedy = Sampling(n=3, max_tokens=10, temperature=1e-4, seed=0)
    for row in draw(model, tokenizer, ROWS, almost_greedy, ENDS):
        expected = one_by_one(model, tokenizer, row, 10)
        assert [one["text"] for one in row["responses"]] == [expected] * 3


def test_the_seed_decides_and_samples_of_a_prompt_differ() -> None:
    model, tokenizer = tiny_lm(), tiny_tokenizer()
    first, again, other = (
        draw(model, tokenizer, ROWS, Sampling(n=4, max_tokens=8, temperature=1.0, seed=seed), ENDS)
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert len({one["text"] for one in first[1]["responses"]}) > 1
    assert [row["key"] for row in first] == ["0", "1", "2"]


def test_drawing_leaves_the_random_state_and_the_mode_as_they_were() -> None:
    model, tokenizer = tiny_lm(), tiny_tokenizer()
    model.train()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    draw(model, tokenizer, ROWS, Sampling(n=2, max_tokens=3, temperature=1.0, seed=0), ENDS)
    assert torch.equal(torch.rand(3), expected)
    assert model.training


def test_draws_follow_the_models_distribution_although_beginnings_are_shared() -> None:
    """The first two tokens of many draws against the exact probabilities."""
    model = tiny_lm()
    prompt, n = [5, 9, 12], 4000
    torch.manual_seed(1)
    drawn = sample_groups(
        model, [prompt, [7, 8]], n=n, max_tokens=2, temperature=1.0, end_ids=ENDS, pad_id=1
    )
    assert len(drawn) == 2 * n
    with torch.no_grad():
        first = model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
        token = int(first.argmax())
        second = model(torch.tensor([[*prompt, token]])).logits[0, -1].softmax(-1)
    own = drawn[:n]
    found = torch.bincount(torch.tensor([ids[0] for ids in own]), minlength=len(first)) / n
    assert (found - first).abs().max() < 4 * (0.25 / n) ** 0.5
    after = [ids[1] for ids in own if ids[0] == token]
    counted = torch.bincount(torch.tensor(after), minlength=len(second)) / len(after)
    assert (counted - second).abs().max() < 4 * (0.25 / len(after)) ** 0.5
    # The control: another prompt has another distribution.
    other = torch.bincount(torch.tensor([ids[0] for ids in drawn[n:]]), minlength=len(first)) / n
    assert (other - first).abs().max() > 4 * (0.25 / n) ** 0.5


def test_a_response_ends_with_its_first_end_token_or_at_the_limit() -> None:
    model, tokenizer = tiny_lm(), tiny_tokenizer()
    ends = frozenset(range(3, 40))
    rows = draw(model, tokenizer, ROWS, Sampling(n=8, max_tokens=6, temperature=1.0, seed=0), ends)
    ids = [one["token_ids"] for row in rows for one in row["responses"]]
    assert any(len(one) < 6 for one in ids)
    assert any(len(one) == 6 for one in ids)
    for one in ids:
        assert not any(token in ends for token in one[:-1])
        assert len(one) == 6 or one[-1] in ends


def test_the_assistants_last_words_begin_every_response() -> None:
    model, tokenizer = tiny_lm(), tiny_tokenizer()
    said = [{"role": "user", "content": "What is the sea?"}]
    opened: Row = {"key": "a", "messages": [*said, {"role": "assistant", "content": "The sea"}]}
    assert split_opening(opened["messages"]) == (said, "The sea")
    assert split_opening(said) == (said, "")
    how = Sampling(n=3, max_tokens=4, temperature=1.0, seed=0)
    (row,) = draw(model, tokenizer, [opened], how, ENDS)
    assert (row["messages"], row["opening"]) == (said, "The sea")
    for one in row["responses"]:
        new = tokenizer.decode(one["token_ids"], skip_special_tokens=True)
        assert one["text"] == "The sea" + new


def test_a_stop_text_is_every_token_that_holds_it_and_one_that_no_token_holds_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    found = stop_ids(tokenizer, "t")
    texts = {token: tokenizer.decode([token]) for token in range(len(tokenizer))}
    end = tokenizer.eos_token_id
    assert found - {end} == {token for token, text in texts.items() if "t" in text}
    assert stop_ids(tokenizer, None) == frozenset({end} - {None})
    with pytest.raises(ValueError, match="no token"):
        stop_ids(tokenizer, "a text that is no token")
