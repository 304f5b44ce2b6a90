"""Sampling n responses to one prompt from a transformers causal language model.

One pass over the prompt, then n rows. `sample` has a random generator of its own, so several
threads can sample, and a seed gives the same samples again. The generator server and the demo use
it. It is no serving engine (no batching over prompts, no paging): use vLLM on a machine with a GPU.
Many prompts at once, for a policy in training: `candor.jobs.generator.groups`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer


@dataclass(frozen=True, slots=True)
class Sample:
    """One continuation; `finish_reason` is `stop` at an end token or a stop text, `length` at the
    limit."""

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

    def keep(self, rows: Sequence[int]) -> None:
        """Forget every other row."""
        self._memory = [memory[list(rows)] for memory in self._memory]
        self._show(self._length)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        end = self._length + key_states.shape[2]
        for memory, states in zip(self._memory, (key_states, value_states), strict=True):
            memory[:, :, self._length : end] = states
        return self._show(end)


def next_tokens(
    logits: torch.Tensor, temperature: float, top_p: float, chance: torch.Tensor
) -> torch.Tensor:
    """One token id per row.

    Args:
        logits: (n, vocab) float32.
        chance: (n, 1) uniform random numbers from 0 to 1.

    Returns:
        (n, 1) int64.
    """
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
    point = chance * below[:, -1:]
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
    ended: Callable[[list[int]], bool] = lambda ids: False,
) -> list[Sample]:
    """Draw `n` continuations of `prompt_ids` of at most `max_tokens` tokens each.

    The same arguments give the same samples on the same machine: the random generator is seeded
    here, and no other request is in the batch. A row's random numbers do not depend on which other
    rows have ended.

    Args:
        ended: says of a row's tokens so far that the row ends with them.
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
    rows = list(range(n))  # the rows that are in the batch
    for step in range(max_tokens):
        chance = torch.rand(n, 1, generator=rng, device=device)
        tokens = next_tokens(logits, temperature, top_p, chance[rows])  # (rows, 1)
        for row, token in zip(rows, tokens[:, 0].tolist(), strict=True):
            if row not in open_rows:
                continue
            if token not in stop_ids:
                drawn[row].append(token)
            if token in stop_ids or ended(drawn[row]):
                open_rows.discard(row)
        if not open_rows or step + 1 == max_tokens:
            break
        if 2 * len(open_rows) <= len(rows):
            places = [place for place, row in enumerate(rows) if row in open_rows]
            rows, tokens = [rows[place] for place in places], tokens[places]
            for layer in cast(list[_SharedPrompt], cache.layers):
                layer.keep(places)
        logits = model(tokens, past_key_values=cache).logits[:, -1].float()
    return [
        Sample(tuple(ids), "length" if row in open_rows else "stop")
        for row, ids in enumerate(drawn)
    ]
