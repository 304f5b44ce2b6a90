"""The KL of an evaluation: 0 for the untrained policy, and else what enumeration gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from candor.jobs.generator.groups import Sampling, draw
from candor.jobs.rl.evaluation.divergence import divergences
from candor.jobs.running.files import Row
from tests.jobs.generator.tiny_lm import tiny_lm
from tests.tiny import tiny_tokenizer

pytestmark = pytest.mark.trl

ROWS: list[Row] = [
    {"key": str(i), "messages": [{"role": "user", "content": text}]}
    for i, text in enumerate(("hi", "What is the sea?"))
]
TEMPERATURE = 0.8


def adapted(scale: float) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(2)
    model: Any = get_peft_model(
        tiny_lm(), LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data *= scale
    return model.eval()


def sampled(model: Any, max_tokens: int) -> list[Row]:
    how = Sampling(n=4, max_tokens=max_tokens, temperature=TEMPERATURE, seed=0)
    return draw(model, tiny_tokenizer(), ROWS, how, frozenset({3}))


def test_an_adapter_that_changes_nothing_has_no_divergence_and_none_has_no_number() -> None:
    model = adapted(0.0)
    assert divergences(model, tiny_tokenizer(), sampled(model, 4), TEMPERATURE) == (
        pytest.approx([0.0, 0.0], abs=1e-6)
    )
    assert divergences(tiny_lm(), tiny_tokenizer(), sampled(tiny_lm(), 2), 1.0) is None


def test_it_is_the_sum_over_tokens_of_the_exact_divergence_of_the_next_token() -> None:
    model, tokenizer = adapted(1.0), tiny_tokenizer()
    drawn = sampled(model, 4)
    expected = []
    for row in drawn:
        prompt = tokenizer.apply_chat_template(
            row["messages"], add_generation_prompt=True, return_dict=False
        )
        sums = []
        for one in row["responses"]:
            total = 0.0
            for at in range(len(one["token_ids"])):
                ids = torch.tensor([[*prompt, *one["token_ids"][:at]]])
                with torch.no_grad():
                    now = (model(ids).logits[0, -1] / TEMPERATURE).log_softmax(-1)
                    with model.disable_adapter():
                        then = (model(ids).logits[0, -1] / TEMPERATURE).log_softmax(-1)
                total += float((now.exp() * (now - then)).sum())
            sums.append(total)
        expected.append(sum(sums) / len(sums))
    found = divergences(model, tokenizer, drawn, TEMPERATURE)
    assert found == pytest.approx(expected, rel=1e-3)
    assert min(expected) > 0.01
