"""The padded engine: right-padded batches through the stock transformers forward.

It serves every architecture that `candor.forward.head` knows, with any attention that the model was
loaded with. It shares nothing between items, and pads them to the longest item; a model that gives
padded items other numbers gets items of equal length, or one by one (`candor.forward.company`). An
item's end comes from its length; the engine never looks for a pad id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from transformers import PreTrainedModel

from candor.engines.readings import by_layer, costs_in_parts, in_parts, score_forward
from candor.engines.threads import trim_after_batch
from candor.forward.batch import padded
from candor.forward.capture import HiddenStateHooks, num_hidden_layers
from candor.forward.company import Company, Rule
from candor.item import BatchResult, Engine, Item
from candor.probes.probe import Probe


class PaddedEngine(Engine):
    """Scores items with one reward model and any number of probes.

    Args:
        model: sequence classification with one label, in eval mode, on `device`.
        probes: names are distinct; layers index `hidden_states` (0 = embeddings).
        device: the model's device.
        rule: which items may share a forward.

    Raises:
        ValueError: two probes share a name, or a probe's layer is not one of the model's.
    """

    name = "padded"

    def __init__(
        self,
        model: PreTrainedModel,
        probes: Sequence[Probe],
        *,
        device: str | torch.device,
        rule: Rule = "any",
    ) -> None:
        self.company = Company(model, rule)
        self._model = model
        self._device = torch.device(device)
        self._layers = by_layer(model, probes, self._device)
        # At every layer, because hooks cannot be put on while another thread runs the model.
        self._hooks = HiddenStateHooks(model, range(num_hidden_layers(model) + 1))

    def costs(self, items: Iterable[Item]) -> Iterator[int]:
        """Padded tokens: the number of items times the longest, by part."""
        return costs_in_parts(self.company, items, _padded_tokens)

    def score(self, items: Sequence[Item]) -> BatchResult:
        """R is read at each item's last token, probes at its response tokens only."""
        return in_parts(self.company, items, self._score)

    def read_probes(self, probes: Sequence[Probe]) -> None:
        """Reads these probes in every forward that begins from now on. Call it from any thread."""
        self._layers = by_layer(self._model, probes, self._device)

    def _score(self, items: Sequence[Item]) -> BatchResult:
        layers = self._layers  # one set of probes for the whole forward
        forward = padded(
            [item.token_ids for item in items],
            [(item.response_start, item.response_end) for item in items],
            self._device,
        )
        result = score_forward(self._model, self.company, self._hooks, layers, items, forward)
        if self._device.type == "cpu":
            trim_after_batch(result.num_computed_tokens)
        return result


def _padded_tokens(items: Iterable[Item]) -> Iterator[int]:
    longest = 0
    for number, item in enumerate(items, start=1):
        longest = max(longest, item.num_tokens)
        yield number * longest
