"""Sampling n responses to one prompt from a transformers causal language model.

One pass over the prompt, then n rows. `sample` has a random generator of its own, so several
threads can sample, and a seed gives the same samples again. The generator server and the demo use
it. It is no serving engine (no batching over prompts, no paging): use vLLM on a machine with a GPU.
Many prompts at once, for a policy in training: `candor.jobs.generator.groups`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer


@dataclass(frozen=True, slots=True)
class Sample:
    """One continuation; `finish_reason` is `stop` at an end token, `length` at the limit."""

    token_ids: tuple[int, ...]
    finish_reason: Literal["stop", "length"]


class _SharedPrompt(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's keys and values for n rows that begin with the same prompt, with room for the
    tokens to come.

    transformers' own layer joins the old states and the new states into fresh memory at every
    token, which on a CPU takes longer than anything else in a decoding step of 16 rows. This layer
    writes in place and returns views: the same values in the same shapes.

    Args:
        keys, values: states after the pass over the prompt, (1, heads, P, head_dim).
        n: number of rows.
        room: number of tokens that may be added to each row.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, n: int, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self._memory = [self._with_room(states, n, room) for states in (keys, values)]
        self._show(keys.shape[2])

    @staticmethod
    def _with_room(states: torch.Tensor, n: int, room: int) -> torch.Tensor:
        _, heads, length, width = states.shape
        memory = states.new_empty(n, heads, length + room, width)
        memory[:, :, :length] = states
        return memory

    def _show(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = (memory[:, :, :length] for memory in self._memory)
        self.keys, self.values, self._length = keys, values, length
        return keys, values

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        end = self._length + key_states.shape[2]
        for memory, states in zip(self._memory, (key_states, value_states), strict=True):
            memory[:, :, self._length : end] = states
        return self._show(end)


def next_tokens(
    logits: torch.Tensor, temperature: float, top_p: float, rng: torch.Generator | None
) -> torch.Tensor:
    """One token id per row. logits: (n, vocab) float32 -> (n, 1) int64. Without `rng`, torch's own
    random state of the device is used."""
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    probs = (logits / temperature).softmax(dim=-1)
    if top_p < 1:
        ordered, order = probs.sort(dim=-1, descending=True)
        beyond = ordered.cumsum(dim=-1) - ordered >= top_p  # the token that crosses top_p stays
        probs = torch.zeros_like(probs).scatter(-1, order, ordered.masked_fill(beyond, 0.0))
    # By the inverse of the cumulative distribution: torch.multinomial would take a quarter of a
    # decoding step here.
    below = probs.cumsum(dim=-1)
    point = torch.rand(len(probs), 1, generator=rng, device=probs.device) * below[:, -1:]
    return torch.searchsorted(below, point, right=True).clamp_max(probs.shape[-1] - 1)


@torch.inference_mode()
def sample(
    model: PreTrainedModel,
    prompt_ids: list[int],
    *,
    n: int,
    max_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    stop_ids: frozenset[int],
) -> list[Sample]:
    """Draw `n` continuations of `prompt_ids` of at most `max_tokens` tokens each.

    The same arguments give the same samples on the same machine: the random generator is seeded
    here, and no other request is in the batch.
    """
    device = model.device
    rng = torch.Generator(device).manual_seed(seed)
    prompt = DynamicCache(config=model.config)
    out = model(torch.tensor([prompt_ids], device=device), past_key_values=prompt, logits_to_keep=1)
    pasts: Any = prompt.layers
    cache = Cache(layers=[_SharedPrompt(past.keys, past.values, n, max_tokens) for past in pasts])
    logits = out.logits[:, -1].float().expand(n, -1)  # (n, vocab)
    drawn: list[list[int]] = [[] for _ in range(n)]
    open_rows = set(range(n))
    for step in range(max_tokens):
        tokens = next_tokens(logits, temperature, top_p, rng)  # (n, 1)
        for row in list(open_rows):
            token = int(tokens[row, 0])
            if token in stop_ids:
                open_rows.discard(row)
            else:
                drawn[row].append(token)
        if not open_rows or step + 1 == max_tokens:
            break
        logits = model(tokens, past_key_values=cache).logits[:, -1].float()
    return [
        Sample(tuple(ids), "length" if row in open_rows else "stop")
        for row, ids in enumerate(drawn)
    ]
