"""Sampling n responses to each of many prompts at once: for a policy in training.

One pass over the prompts, then all rows token by token. Rows that have ended leave the batch once
half of it has, so short responses cost little beside one long response.

The random numbers are torch's own, so that a trainer that continues from a checkpoint draws the
responses that it would have drawn. A generation server would seed each request instead
(`candor.jobs.generator.sample`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from candor.jobs.generator.sample import RoomyLayer, next_tokens
from candor.jobs.running.files import Row

MAX_ROWS = 256
"""Most rows that `draw` samples at once."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How responses are drawn: `n` per prompt, of at most `max_tokens` tokens each; top_p is 1."""

    n: int
    max_tokens: int
    temperature: float
    seed: int


@torch.no_grad()
def sample_groups(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    n: int,
    max_tokens: int,
    temperature: float,
    end_ids: frozenset[int],
    pad_id: int,
) -> list[list[int]]:
    """Token ids of n responses to each prompt; the responses to one prompt follow each other.

    A response ends with one of `end_ids`, which belongs to it, or at `max_tokens`.
    """
    device = model.device
    length = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (length - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor(
        [[0] * (length - len(p)) + [1] * len(p) for p in prompts], device=device
    )
    cache, logits = _read_prompts(model, ids, mask, n, max_tokens)
    mask = mask.repeat_interleave(n, 0)
    places = mask.sum(-1, keepdim=True)  # of the next token, per row
    ends = torch.tensor(sorted(end_ids), device=device)
    drawn: list[list[int]] = [[] for _ in range(len(mask))]
    rows = torch.arange(len(mask), device=device)  # the response that each row of the batch makes
    is_open = torch.ones_like(rows, dtype=torch.bool)
    for step in range(max_tokens):
        tokens = next_tokens(logits, temperature, 1.0, None)  # (rows, 1)
        for row, token, going in zip(
            rows.tolist(), tokens[:, 0].tolist(), is_open.tolist(), strict=True
        ):
            if going:
                drawn[row].append(token)
        is_open &= ~torch.isin(tokens[:, 0], ends)
        num_open = int(is_open.sum())
        if num_open == 0 or step + 1 == max_tokens:
            break
        if num_open <= len(rows) // 2:
            kept = is_open.nonzero()[:, 0]
            cache.batch_select_indices(kept)
            rows, mask, places, tokens = rows[kept], mask[kept], places[kept], tokens[kept]
            is_open = is_open[kept]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        logits = model(
            input_ids=tokens, attention_mask=mask, position_ids=places, past_key_values=cache
        ).logits[:, -1].float()
        places = places + 1
    return drawn


def _read_prompts(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, n: int, room: int
) -> tuple[Cache, torch.Tensor]:
    """The states of n rows per prompt, and the logits of their first tokens, (rows, vocab)."""
    cache: Any = DynamicCache(config=model.config)
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(-1) - 1).clamp_min(0),
        past_key_values=cache,
        logits_to_keep=1,
    )
    layers = cache.layers
    if all(type(layer) is DynamicLayer for layer in layers):
        cache = Cache(layers=[RoomyLayer(layer.keys, layer.values, n, room) for layer in layers])
    else:  # a sliding window and the like keep their own layers
        cache.batch_repeat_interleave(n)
    return cache, out.logits[:, -1].float().repeat_interleave(n, 0)


def stop_ids(tokenizer: Any, stop: str | None) -> frozenset[int]:
    """The tokens that end a response: the tokenizer's end token, and with `stop` every token whose
    text contains it.

    Raises:
        ValueError: no token contains `stop`, so it would never be seen.
    """
    ends = {tokenizer.eos_token_id} - {None}
    if stop is not None:
        texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
        found = {token for token, text in enumerate(texts) if stop in text}
        if not found:
            raise ValueError(f"no token of the policy contains {stop!r}")
        ends |= found
    return frozenset(ends)


def prompt_ids(tokenizer: Any, context: Sequence[Any], opening: str) -> list[int]:
    """The rendered prompt, followed by the beginning of the response."""
    rendered: list[int] = tokenizer.apply_chat_template(
        context, add_generation_prompt=True, return_dict=False
    )
    return [*rendered, *tokenizer(opening, add_special_tokens=False)["input_ids"]]


def split_opening(messages: Sequence[Any]) -> tuple[Sequence[Any], str]:
    """The messages before the response, and its beginning: the content of a last message of the
    assistant, or nothing."""
    if messages and messages[-1]["role"] == "assistant":
        return messages[:-1], str(messages[-1]["content"])
    return messages, ""


def draw(
    model: Any, tokenizer: Any, rows: Sequence[Row], how: Sampling, ends: frozenset[int]
) -> list[Row]:
    """`rows` with `responses`, as `candor generate` writes them; each response has its `text`, and
    its `token_ids` without the opening.

    A last message of the assistant is the beginning of each response: it leaves `messages` and
    begins the texts. The random state and the mode of the model are put back afterwards, so a
    training run with evaluations takes the same steps as a run without.

    Args:
        model: a transformers causal language model, with or without an adapter.
        tokenizer: the model's; needs a chat template and a pad token.
        rows: each with `messages`.
        ends: the tokens that end a response (`stop_ids`).
    """
    was_training = model.training
    devices = [model.device] if model.device.type == "cuda" else []
    per_call = max(1, MAX_ROWS // how.n)
    drawn: list[Row] = []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(how.seed)
        model.eval()
        try:
            for start in range(0, len(rows), per_call):
                drawn += _draw_together(model, tokenizer, rows[start : start + per_call], how, ends)
        finally:
            model.train(was_training)
    return drawn


def _draw_together(
    model: Any, tokenizer: Any, rows: Sequence[Row], how: Sampling, ends: frozenset[int]
) -> list[Row]:
    split = [split_opening(row["messages"]) for row in rows]
    ids = sample_groups(
        model,
        [prompt_ids(tokenizer, context, opening) for context, opening in split],
        n=how.n,
        max_tokens=how.max_tokens,
        temperature=how.temperature,
        end_ids=ends,
        pad_id=tokenizer.pad_token_id,
    )
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    found = []
    for place, (row, (context, opening)) in enumerate(zip(rows, split, strict=True)):
        own = slice(place * how.n, (place + 1) * how.n)
        responses = [
            {"text": opening + text, "token_ids": tokens}
            for text, tokens in zip(texts[own], ids[own], strict=True)
        ]
        found.append({**row, "messages": list(context), "responses": responses})
    return found
