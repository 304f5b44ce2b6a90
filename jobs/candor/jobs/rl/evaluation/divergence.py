"""KL(policy || untrained policy) on held-out prompts, in nats per response.

Estimated from the evaluation's own samples: at each token of a sampled response the divergence of
the two next-token distributions is computed exactly, over the whole vocabulary, and summed over the
response. By the chain rule its mean is the divergence of the distributions of whole responses. It
is never negative and varies less than the log-ratio of the sampled tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from candor.jobs.generator.groups import prompt_ids
from candor.jobs.rl.groups.logps import HEAD_TOKENS, PromptedResponses, can_share, hidden_states
from candor.jobs.running.files import Row

PROMPTS = 16
"""Prompts per pass."""


@torch.no_grad()
def divergences(
    model: Any, tokenizer: Any, drawn: Sequence[Row], temperature: float
) -> list[float] | None:
    """Mean divergence of the responses to each prompt, [P]; both policies at the sampling
    temperature.

    None without an adapter (the untrained weights are gone) and for a model whose states cannot be
    shared (`candor.jobs.rl.groups.logps.can_share`).

    Args:
        drawn: rows as `candor.jobs.generator.groups.draw` makes them.
    """
    if not hasattr(model, "disable_adapter") or not can_share(model.get_base_model()):
        return None
    was_training = model.training
    model.eval()
    found: list[float] = []
    for start in range(0, len(drawn), PROMPTS):
        found += _of_prompts(model, tokenizer, drawn[start : start + PROMPTS], temperature)
    model.train(was_training)
    return found


def _of_prompts(model: Any, tokenizer: Any, rows: Sequence[Row], temperature: float) -> list[float]:
    batch = _batch(tokenizer, rows, model.device)
    causal = model.get_base_model()
    scored = batch.response_mask.bool()
    trained = hidden_states(causal.base_model, batch)[scored]
    with model.disable_adapter():
        before = hidden_states(causal.base_model, batch)[scored]
    head = causal.get_output_embeddings()
    by_token = torch.cat(
        [
            _kl(head(now), head(then), temperature)
            for now, then in zip(
                torch.split(trained, HEAD_TOKENS), torch.split(before, HEAD_TOKENS), strict=True
            )
        ]
    )
    by_response = torch.zeros(scored.shape, device=by_token.device)
    by_response = by_response.masked_scatter(scored, by_token).sum(-1)
    return [float(by_response[batch.prompt_of == place].mean()) for place in range(len(rows))]


def _kl(logits: Tensor, reference: Tensor, temperature: float) -> Tensor:
    """[n] KL(p || q) of the rows of two [n, vocab]."""
    log_p = (logits.float() / temperature).log_softmax(-1)
    log_q = (reference.float() / temperature).log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def _batch(tokenizer: Any, rows: Sequence[Row], device: torch.device) -> PromptedResponses:
    """The rows' responses by token; an opening belongs to the prompt."""
    prompts = [prompt_ids(tokenizer, row["messages"], row.get("opening", "")) for row in rows]
    responses = [one["token_ids"] for row in rows for one in row["responses"]]
    prompt_of = [place for place, row in enumerate(rows) for _ in row["responses"]]
    width = max(map(len, responses))
    pad = tokenizer.pad_token_id

    def whole(values: list[list[int]]) -> Tensor:
        return torch.tensor(values, device=device)

    return PromptedResponses(
        prompts=prompts,
        responses=whole([[*ids, *[pad] * (width - len(ids))] for ids in responses]),
        response_mask=whole([[1] * len(ids) + [0] * (width - len(ids)) for ids in responses]),
        prompt_of=torch.tensor(prompt_of, device=device),
    )
