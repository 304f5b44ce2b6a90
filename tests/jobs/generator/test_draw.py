"""Samples of a policy in training: the same as one by one, and no trace left in the run."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from candor.jobs.generator import sample
from candor.jobs.generator.sample import Sampling, draw
from candor.jobs.running.files import Row
from tests.jobs.generator.tiny_lm import tiny_lm
from tests.tiny import tiny_tokenizer

ROWS: list[Row] = [
    {"key": str(i), "messages": [{"role": "user", "content": text}]}
    for i, text in enumerate(("hi", "What is the sea, and is the poem good?", "yes"))
]


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
    monkeypatch.setattr(sample, "MAX_ROWS", max_rows)
    model, tokenizer = tiny_lm(), tiny_tokenizer()
    almost_greedy = Sampling(n=3, max_tokens=10, temperature=1e-4, seed=0)
    for row in draw(model, tokenizer, ROWS, almost_greedy):
        expected = one_by_one(model, tokenizer, row, 10)
        assert [one["text"] for one in row["responses"]] == [expected] * 3


def test_the_seed_decides_and_samples_of_a_prompt_differ() -> None:
    model, tokenizer = tiny_lm(), tiny_tokenizer()
    first, again, other = (
        draw(model, tokenizer, ROWS, Sampling(n=4, max_tokens=8, temperature=1.0, seed=seed))
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
    draw(model, tokenizer, ROWS, Sampling(n=2, max_tokens=3, temperature=1.0, seed=0))
    assert torch.equal(torch.rand(3), expected)
    assert model.training
