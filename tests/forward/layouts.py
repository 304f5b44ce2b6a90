"""Sequences that share prefixes, and the states of their layout as a model hands them over."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from candor.forward.prefix import Layout

CPU = torch.device("cpu")
HEADS = [(1, 1), (4, 2), (3, 1), (8, 2), (8, 1)]
"""(query heads, key/value heads): as many, 2, 3 and 4 to one, and all to one."""


def sequences(seed: int) -> list[tuple[int, ...]]:
    """A context that three go on from, one of them further, a duplicate, and one by itself."""
    draw = random.Random(seed)

    def some(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw.randrange(1000) for _ in range(draw.randint(low, high)))

    context, turn = some(17, 60), some(16, 40)
    found = [context + some(1, 30) for _ in range(3)]
    found += [context + turn + some(1, 50), context + turn + some(1, 9), some(1, 70)]
    return [*found, found[0]]


def states(
    layout: Layout, heads: tuple[int, int], head_dim: int, dtype: torch.dtype, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [1, heads, T, head_dim] as a model hands them over: transposed."""
    generator = torch.Generator().manual_seed(seed)
    counts = (heads[0], heads[1], heads[1])
    query, key, value = (
        torch.randn(1, layout.num_tokens, n, head_dim, generator=generator)
        .to(dtype)
        .transpose(1, 2)
        for n in counts
    )
    return query, key, value
