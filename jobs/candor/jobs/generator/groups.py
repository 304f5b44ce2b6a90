"""Sampling n responses to each of many prompts at once: for a policy in training.

One pass over the prompts, then token by token. Responses that begin alike are computed once until
they part, and a response that has ended is computed no more. So eight short answers to one question
cost little more than the three or four different ones among them.

The random numbers are torch's own, so that a trainer that continues from a checkpoint draws the
responses that it would have drawn. A generation server would seed each request instead
(`candor.jobs.generator.sample`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from candor.jobs.generator.sample import next_tokens
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
    # As an index, not as a number: the slice that a number takes is not contiguous, and torch would
    # multiply it by a copy of a frozen head per prompt (3 s for 16 prompts of a vocabulary of 49
    # thousand).
    last = torch.tensor([-1], device=device)
    run = partial(model, logits_to_keep=last)
    out, cache, mask = read_prompts(run, model, prompts, pad_id)
    logits = out.logits[:, -1].float()  # (rows, vocab); a row is a beginning that responses share
    places = mask.sum(-1, keepdim=True)  # of the next token, per row
    ends = torch.tensor(sorted(end_ids), device=device)
    drawn: list[list[int]] = [[] for _ in range(n * len(prompts))]
    going = torch.arange(len(drawn), device=device)  # the responses that have not ended
    row_of = going // n  # the row of each of them
    for step in range(max_tokens):
        chance = torch.rand(len(row_of), 1, device=logits.device)
        tokens = next_tokens(logits[row_of], temperature, 1.0, chance)[:, 0]
        for response, token in zip(going.tolist(), tokens.tolist(), strict=True):
            drawn[response].append(token)
        on = ~torch.isin(tokens, ends)
        going, row_of, tokens = going[on], row_of[on], tokens[on]
        if len(going) == 0 or step + 1 == max_tokens:
            break
        beginnings, row_of = torch.unique(
            torch.stack([row_of, tokens], 1), dim=0, return_inverse=True
        )
        parents = beginnings[:, 0]
        cache.batch_select_indices(parents)
        mask = torch.cat([mask[parents], mask.new_ones(len(parents), 1)], dim=1)
        places = places[parents]
        logits = (
            model(
                input_ids=beginnings[:, 1:],
                attention_mask=mask,
                position_ids=places,
                past_key_values=cache,
            )
            .logits[:, -1]
            .float()
        )
        places = places + 1
    return drawn


def read_prompts(
    run: Callable[..., Any], model: Any, prompts: Sequence[Sequence[int]], pad_id: int
) -> tuple[Any, Any, Tensor]:
    """One pass over prompts; what they all begin with, such as the system message, once for all.

    Args:
        run: the model, or its trunk.
        model: names the device and the configuration.

    Returns:
        The output for the rest of each prompt, its last token last; the states; and the mask over
        them, [prompts, places] int64.
    """
    device, cache = model.device, DynamicCache(config=model.config)
    num_shared = _common(prompts)
    if num_shared:
        first = torch.tensor([list(prompts[0][:num_shared])], device=device)
        run(input_ids=first, past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(len(prompts))
    rest = [list(prompt[num_shared:]) for prompt in prompts]
    length = max(map(len, rest))
    ids = torch.tensor([[pad_id] * (length - len(own)) + own for own in rest], device=device)
    mask = torch.tensor(
        [[1] * num_shared + [0] * (length - len(own)) + [1] * len(own) for own in rest],
        device=device,
    )
    out = run(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(-1) - 1).clamp_min(0)[:, num_shared:],
        past_key_values=cache,
        use_cache=True,
    )
    return out, cache, mask


def _common(prompts: Sequence[Sequence[int]]) -> int:
    """Number of tokens that all prompts begin with; each prompt keeps one of its own."""
    ids = [list(prompt) for prompt in prompts]
    shortest, longest = min(ids), max(ids)  # in the order of dictionaries
    same = 0
    while same < min(map(len, prompts)) - 1 and shortest[same] == longest[same]:
        same += 1
    return same if len(prompts) > 1 else 0


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

    A last message of the assistant is the beginning of each response: it moves from `messages` to
    `opening`, and begins the texts. The random state and the mode of the model are put back
    afterwards, so a training run with evaluations takes the same steps as a run without.

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
        whole = {**row, "messages": list(context), "responses": responses}
        found.append({**whole, "opening": opening} if opening else whole)
    return found
