"""The padded engine: right-padded batches through the stock transformers forward, one forward per
batch.

It is correct for every architecture in `candor.forward.capture`, with any attention that the model
was loaded with. It shares nothing between items, and pads them to the longest item. An item's end
comes from its length; the engine never looks for a pad id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from transformers import PreTrainedModel

from candor.engines.readings import by_layer, score_forward
from candor.engines.threads import trim_after_batch
from candor.forward.batch import padded
from candor.forward.capture import HiddenStateHooks
from candor.item import BatchResult, Engine, Item
from candor.probes.probe import Probe


class PaddedEngine(Engine):
    """Scores items with one reward model and any number of probes.

    Args:
        model: sequence classification with one label, in eval mode, on `device`.
        probes: names are distinct; layers index `hidden_states` (0 = embeddings).
        device: the model's device.

    Raises:
        ValueError: two probes share a name, or a probe's layer is not one of the model's.
    """

    name = "padded"

    def __init__(
        self, model: PreTrainedModel, probes: Sequence[Probe], *, device: str | torch.device
    ) -> None:
        self._model = model
        self._device = torch.device(device)
        self._layers = by_layer(model, probes, self._device)
        self._hooks = HiddenStateHooks(model, self._layers)

    def costs(self, items: Iterable[Item]) -> Iterator[int]:
        """Padded tokens: the number of items times the longest."""
        longest = 0
        for number, item in enumerate(items, start=1):
            longest = max(longest, item.num_tokens)
            yield number * longest

    def score(self, items: Sequence[Item]) -> BatchResult:
        """One forward. R is read at each item's last token, probes at its response tokens only."""
        forward = padded(
            [item.token_ids for item in items],
            [(item.response_start, item.response_end) for item in items],
            self._device,
        )
        result = score_forward(self._model, self._hooks, self._layers, items, forward)
        if self._device.type == "cpu":
            trim_after_batch(result.num_computed_tokens)
        return result
