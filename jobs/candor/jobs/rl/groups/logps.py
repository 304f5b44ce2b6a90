"""Log-probabilities of responses that share prompts: each prompt goes through the model once.

TRL gives every response its own copy of the prompt. With 8 responses of 5 tokens to a prompt of 60
that is 520 tokens in place of 100, and on a machine without a GPU TRL also multiplies each of them
by the whole vocabulary, though only the responses are scored.

Here the prompts go through the trunk once, their keys and values are given to each of their
responses, equal responses are computed once, and only the positions that predict a response's token
reach the head. Gradients flow through all of it, so the loss is that of TRL up to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from candor.jobs.generator.groups import read_prompts

HEAD_TOKENS = 256
"""Tokens whose logits are in memory at once; 256 of a vocabulary of 50 thousand take 50 MB."""

SCALES = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier")
"""What a configuration names when the logits are more than the head's product (with
`logits_scaling`)."""


@dataclass(frozen=True, slots=True)
class PromptedResponses:
    """Attributes:
    prompts: the token ids of the different prompts.
    responses, response_mask: [B, C] int64, padded on the right.
    prompt_of: [B] int64, which prompt each response answers.
    """

    prompts: list[list[int]]
    responses: Tensor
    response_mask: Tensor
    prompt_of: Tensor


def batch_of(
    input_ids: Tensor, attention_mask: Tensor, num_response_tokens: int
) -> PromptedResponses:
    """From TRL's rows [B, P + C], each with its own copy of the prompt, padded on the left."""
    cut = input_ids.shape[1] - num_response_tokens
    rows = [
        tuple(ids[mask.bool()].tolist())
        for ids, mask in zip(input_ids[:, :cut], attention_mask[:, :cut], strict=True)
    ]
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(rows))}
    return PromptedResponses(
        prompts=[list(prompt) for prompt in places],
        responses=input_ids[:, cut:],
        response_mask=attention_mask[:, cut:],
        prompt_of=torch.tensor([places[prompt] for prompt in rows], device=input_ids.device),
    )


def different(batch: PromptedResponses) -> tuple[PromptedResponses, Tensor]:
    """The different (prompt, response) pairs of a batch, and which of them each row is, [B]."""
    read = batch.responses.masked_fill(batch.response_mask == 0, -1)
    pairs = torch.cat([batch.prompt_of[:, None], read], dim=1)
    found, which = torch.unique(pairs, dim=0, return_inverse=True)
    responses = found[:, 1:]
    return PromptedResponses(
        prompts=batch.prompts,
        responses=responses.clamp_min(0),
        response_mask=(responses >= 0).long(),
        prompt_of=found[:, 0],
    ), which


def can_share(causal: Any) -> bool:
    """Whether this causal language model's states can be given from a prompt to its responses, and
    its logits are the head's product alone."""
    config = causal.config.get_text_config()
    if any(getattr(config, name, None) for name in SCALES):
        return False
    if getattr(config, "logits_scaling", None) not in (None, 1, 1.0):
        return False
    layers = DynamicCache(config=causal.config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def hidden_states(trunk: Any, batch: PromptedResponses) -> Tensor:
    """[B, C, hidden]: the last hidden state that predicts each token of each response."""
    out, cache, mask = read_prompts(trunk, trunk, batch.prompts, 0)
    prompts = out.last_hidden_state
    first: Tensor = prompts[batch.prompt_of, -1:]  # [B, 1, hidden]
    if batch.responses.shape[1] == 1:
        return first
    cache.batch_select_indices(batch.prompt_of)
    mask = mask[batch.prompt_of]
    response_mask = batch.response_mask[:, :-1]
    after = mask.sum(-1, keepdim=True) + torch.arange(response_mask.shape[1], device=mask.device)
    others = trunk(
        input_ids=batch.responses[:, :-1],
        attention_mask=torch.cat([mask, response_mask], dim=1),
        position_ids=after,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    return torch.cat([first, others], dim=1)


def token_logps(
    causal: Any, batch: PromptedResponses, temperature: float, *, entropies: bool
) -> tuple[Tensor, Tensor | None]:
    """[B, C] float32 log-probabilities of the responses' tokens under the sampling temperature, and
    the entropies of the distributions that they were drawn from; 0 at padded places.

    Entropies carry no gradient.
    """
    batch, which = different(batch)
    hidden = hidden_states(causal.base_model, batch)
    scored = batch.response_mask.bool()
    states, targets = hidden[scored], batch.responses[scored]
    head = causal.get_output_embeddings()
    found = [
        checkpoint(_of_tokens, head, some, wanted, temperature, use_reentrant=False)
        for some, wanted in zip(
            torch.split(states, HEAD_TOKENS), torch.split(targets, HEAD_TOKENS), strict=True
        )
    ]
    empty = torch.zeros(scored.shape, dtype=torch.float32, device=hidden.device)
    logps = empty.masked_scatter(scored, torch.cat([logps for logps, _ in found]))
    if not entropies:
        return logps[which], None
    spread = empty.masked_scatter(scored, torch.cat([entropy for _, entropy in found]))
    return logps[which], spread[which]


def _of_tokens(
    head: Any, states: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """[n] log-probability of each target, and [n] entropy."""
    log_probs = (head(states).float() / temperature).log_softmax(-1)
    with torch.no_grad():
        entropy = -(log_probs.exp() * log_probs).sum(-1)
    return log_probs.gather(-1, targets[:, None])[:, 0], entropy
