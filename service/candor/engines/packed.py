"""The packed engine: one sequence per batch, no padding, every distinct prefix computed once.

It works for every decoder in which attention alone carries information from token to token, through
transformers' attention interface (`candor.engines.mixing`). `candor.engines.choose` tests whether a
model is such a decoder, and whether the scores equal those of its own forward.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from transformers import PreTrainedModel

from candor.engines.prefix_cache import PrefixCache
from candor.engines.readings import by_layer, costs_in_parts, in_parts, score_forward
from candor.engines.threads import trim_after_batch
from candor.forward.batch import packed
from candor.forward.capture import HiddenStateHooks, num_hidden_layers
from candor.forward.company import Company
from candor.forward.packed_attention import NAME
from candor.forward.prefix import count_distinct
from candor.item import BatchResult, Engine, Item
from candor.probes.probe import Probe


class PackedEngine(Engine):
    """Scores items with one reward model and any number of probes. Replaces the model's attention.

    Args:
        model: sequence classification with one label, in eval mode, on `device`. Its attention
            implementation is replaced, so no other code can run the model afterwards.
        probes: names are distinct; layers index `hidden_states` (0 = embeddings).
        device: the model's device.
        prefix_cache: keeps contexts for later forwards. None computes every context again; so does
            a model whose rotary frequencies depend on a forward's longest text.

    Raises:
        ValueError: two probes share a name, or a probe's layer is not one of the model's.
    """

    name = "packed"

    def __init__(
        self,
        model: PreTrainedModel,
        probes: Sequence[Probe],
        *,
        device: str | torch.device,
        prefix_cache: PrefixCache | None = None,
    ) -> None:
        self.company = Company(model)
        self._model = model
        # Where rotary frequencies change with the longest text, cached keys are rotated for theirs.
        self._prefix_cache = None if self.company.changes_model else prefix_cache
        self._device = torch.device(device)
        self._layers = by_layer(model, probes, self._device)
        # At every layer, because hooks cannot be put on while another thread runs the model.
        self._hooks = HiddenStateHooks(model, range(num_hidden_layers(model) + 1))
        model.set_attn_implementation(NAME)

    def costs(self, items: Iterable[Item]) -> Iterator[int]:
        """Distinct tokens by part, as if no context were cached."""
        return costs_in_parts(self.company, items, _distinct_tokens)

    def score(self, items: Sequence[Item]) -> BatchResult:
        """R is read at each item's last token, probes at its response tokens only."""
        return in_parts(self.company, items, self._score)

    def read_probes(self, probes: Sequence[Probe]) -> None:
        """Reads these probes in every forward that begins from now on. Call it from any thread."""
        self._layers = by_layer(self._model, probes, self._device)

    def _score(self, items: Sequence[Item]) -> BatchResult:
        layers = self._layers  # one set of probes for the whole forward
        cache = self._prefix_cache
        contexts = None if cache is None else cache.look_up(items)
        forward = packed(
            [item.token_ids for item in items],
            [(item.response_start, item.response_end) for item in items],
            self._device,
            [item.sort_key for item in items],
            contexts.cached if contexts else None,
            contexts.to_keep if contexts else None,
            read_last_layer=num_hidden_layers(self._model) in layers,
        )
        result = score_forward(self._model, self.company, self._hooks, layers, items, forward)
        if cache is not None and contexts is not None:
            cache.keep(contexts, forward.kept_prefixes, forward.num_cached_tokens)
        if self._device.type == "cpu":
            trim_after_batch(result.num_computed_tokens)
        return result

    def forget(self) -> None:
        """Drops the cached contexts."""
        if self._prefix_cache is not None:
            self._prefix_cache.clear()


def _distinct_tokens(items: Iterable[Item]) -> Iterator[int]:
    return count_distinct(item.sort_key for item in items)
