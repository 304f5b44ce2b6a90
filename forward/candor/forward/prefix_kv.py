"""Keys and values of prefixes, kept from one forward for the next: `Prefix` and `KeyValues`.

A prefix's keys and values depend on its own tokens alone, so a later batch may look at them instead
of computing the prefix again. Which are kept, and for how long, is not decided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from candor.forward.prefix import Layout


@dataclass(slots=True, eq=False)
class Prefix:
    """By layer, the keys and values [key/value heads, tokens, head_dim] of a prefix's tokens, as
    attention sees them: with their rotation, in the model's dtype, on its device."""

    num_tokens: int
    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        return sum(k.nbytes + v.nbytes for k, v in self.layers.values())


class KeyValues:
    """What the attention of one forward is given to look at, and what is kept of it.

    Args:
        layout: its `known` segments are those that `prefixes` hold.
        prefixes: for each sequence, its longest known prefix; None where none is.
        keep: for each of some sequences, how many of its first tokens to keep.
    """

    def __init__(
        self,
        layout: Layout,
        prefixes: Sequence[Prefix | None],
        keep: Mapping[int, int],
        device: torch.device,
    ) -> None:
        self.kept = {number: Prefix(length) for number, length in keep.items()}
        self._places = {
            number: torch.tensor([*layout.indices(number, 0, length)], device=device)
            for number, length in keep.items()
        }
        self._known: list[tuple[Prefix, slice]] = []
        for segment, number in zip(layout.segments, layout.known, strict=False):
            prefix = prefixes[number]
            assert prefix is not None
            end = segment.depth + segment.end - segment.start
            self._known.append((prefix, slice(segment.depth, end)))

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values of the computed tokens, [1, key/value heads, tokens, head_dim], with
        those of the layout's known segments in front."""
        if self._known:
            found = [(prefix.layers[layer], span) for prefix, span in self._known]
            key = torch.cat([*(k[None, :, span] for (k, _), span in found), key], dim=2)
            value = torch.cat([*(v[None, :, span] for (_, v), span in found), value], dim=2)
        for number, prefix in self.kept.items():
            places = self._places[number]
            prefix.layers[layer] = key[0][:, places], value[0][:, places]
        return key, value
