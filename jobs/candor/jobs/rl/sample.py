"""Samples of the policy as it is now, in the process that trains it: for evaluating, not training.

transformers' own `generate`, a few prompts at a time. The random state is put back afterwards and
the model's mode too, so a run with evaluations takes the same steps as one without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import DynamicCache

from candor.jobs.running.files import Row

MAX_ROWS = 64
"""Rows of one `generate` call."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How responses are drawn: `n` a prompt, of at most `max_tokens` tokens; top_p is 1."""

    n: int
    max_tokens: int
    temperature: float
    seed: int


def draw(model: Any, tokenizer: Any, rows: Sequence[Row], how: Sampling) -> list[Row]:
    """`rows` with `responses`, as `candor generate` writes them.

    Args:
        model: a transformers causal LM, with an adapter or without.
        tokenizer: its own; needs a chat template and a pad token.
        rows: with `messages`.
    """
    was_training = model.training
    devices = [model.device] if model.device.type == "cuda" else []
    per_call = max(1, MAX_ROWS // how.n)
    drawn: list[Row] = []
    with torch.random.fork_rng(devices=devices), torch.inference_mode():
        torch.manual_seed(how.seed)
        model.eval()
        try:
            for start in range(0, len(rows), per_call):
                drawn += _draw(model, tokenizer, rows[start : start + per_call], how)
        finally:
            model.train(was_training)
    return drawn


def _draw(model: Any, tokenizer: Any, rows: Sequence[Row], how: Sampling) -> list[Row]:
    prompts = [
        cast(
            list[int],
            tokenizer.apply_chat_template(
                row["messages"], add_generation_prompt=True, return_dict=False
            ),
        )
        for row in rows
    ]
    inputs = tokenizer.pad(
        {"input_ids": prompts}, padding=True, padding_side="left", return_tensors="pt"
    ).to(model.device)
    # One pass over each prompt, whatever n is; the last token is left for `generate` to begin with.
    ids, mask = (inputs[name] for name in ("input_ids", "attention_mask"))
    cache = DynamicCache(config=model.config)
    if ids.shape[1] > 1:
        position_ids = (mask.cumsum(-1) - 1).clamp_min(0)[:, :-1]
        model(
            input_ids=ids[:, :-1],
            attention_mask=mask[:, :-1],
            position_ids=position_ids,
            past_key_values=cache,
            logits_to_keep=1,
        )
        cache.batch_repeat_interleave(how.n)
    out = model.generate(
        input_ids=ids.repeat_interleave(how.n, dim=0),
        attention_mask=mask.repeat_interleave(how.n, dim=0),
        past_key_values=cache,
        do_sample=True,
        temperature=how.temperature,
        top_k=0,
        top_p=1.0,
        max_new_tokens=how.max_tokens,
        pad_token_id=tokenizer.pad_token_id,
    )
    texts = tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
    return [
        {**row, "responses": [{"text": text} for text in texts[i * how.n : (i + 1) * how.n]]}
        for i, row in enumerate(rows)
    ]
