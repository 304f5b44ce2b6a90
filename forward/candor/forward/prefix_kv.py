"""Keys and values of prefixes, kept from one forward for the next: `CachedPrefix` and `KeyValues`.

A prefix's keys and values depend on the prefix's own tokens alone. So a later batch can attend to
the kept keys and values in place of computing the prefix again. Which prefixes are kept, and for
how long, is decided in `candor.engines.prefix_cache`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from candor.forward.prefix import Layout


@dataclass(slots=True, eq=False)
class CachedPrefix:
    """By layer, the keys and values [key/value heads, tokens, head_dim] of a prefix's tokens, as
    attention sees them: with their rotation, in the model's dtype, on the model's device."""

    num_tokens: int
    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        return sum(k.nbytes + v.nbytes for k, v in self.layers.values())


class KeyValues:
    """Brings cached keys and values into the attention of one forward, and keeps new ones.

    Args:
        layout: its cached segments (`Layout.cached_from`) are held by `cached_prefixes`.
        cached_prefixes: for each sequence, its longest cached prefix, or None.
        to_keep: sequence number -> how many of its first tokens to keep.
    """

    def __init__(
        self,
        layout: Layout,
        cached_prefixes: Sequence[CachedPrefix | None],
        to_keep: Mapping[int, int],
        device: torch.device,
    ) -> None:
        self.kept_prefixes = {number: CachedPrefix(length) for number, length in to_keep.items()}
        self._kept_indices = {
            number: torch.tensor([*layout.indices(number, 0, length)], device=device)
            for number, length in to_keep.items()
        }
        self._cached: list[tuple[CachedPrefix, slice]] = []
        for segment, number in zip(layout.segments, layout.cached_from, strict=False):
            prefix = cached_prefixes[number]
            assert prefix is not None
            end = segment.depth + segment.end - segment.start
            self._cached.append((prefix, slice(segment.depth, end)))

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Puts the layout's cached segments in front of the computed tokens' keys and values
        [1, key/value heads, tokens, head_dim]."""
        if self._cached:
            found = [(prefix.layers[layer], span) for prefix, span in self._cached]
            key = torch.cat([*(k[None, :, span] for (k, _), span in found), key], dim=2)
            value = torch.cat([*(v[None, :, span] for (_, v), span in found), value], dim=2)
        for number, prefix in self.kept_prefixes.items():
            indices = self._kept_indices[number]
            prefix.layers[layer] = key[0][:, indices], value[0][:, indices]
        return key, value
