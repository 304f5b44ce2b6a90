"""The plain engine: right-padded batches through the stock transformers forward, one forward a
batch.

Correct for every architecture `probes.capture` knows, with whatever attention the model was loaded
with. It shares nothing between items and pads to the longest one; a faster engine needs only `cost`
and `score`. It never looks for a pad id: where an item ends is its length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from probes.capture import num_hidden_layers, read_hidden_states
from probes.collate import right_pad
from probes.head import decoder, head_logits
from probes.probe import Probe
from service.batch import BatchResult, Item, Reading, Score


class PaddedEngine:
    """Scores items with one reward model and any number of probes.

    Args:
        model: sequence classification with one label, in eval mode, on `device`.
        probes: names are distinct; layers index `hidden_states` (0 = embeddings).
        device: where the model is.

    Raises:
        ValueError: two probes share a name, or a probe's layer is not one of the model's.
    """

    name = "padded"

    def __init__(
        self, model: PreTrainedModel, probes: Sequence[Probe], *, device: str | torch.device
    ) -> None:
        names = [probe.name for probe in probes]
        if len(set(names)) != len(names):
            raise ValueError(f"two probes share a name: {sorted(names)}")
        top = num_hidden_layers(model)
        for probe in probes:
            if not 0 <= probe.layer <= top:
                raise ValueError(f"probe {probe.name!r}: layer {probe.layer} is not in 0..{top}")
        self._model = model
        self._device = torch.device(device)
        self._probes = [probe.to(self._device) for probe in probes]
        self._layers = {
            layer: _Layer([probe for probe in self._probes if probe.layer == layer])
            for layer in sorted({probe.layer for probe in self._probes})
        }

    def cost(self, items: Sequence[Item]) -> int:
        """Padded tokens: items times the longest."""
        return len(items) * max(item.num_tokens for item in items)

    @torch.inference_mode()
    def score(self, items: Sequence[Item]) -> BatchResult:
        """One forward; R at each item's last token, probe logits at its response tokens only."""
        input_ids, attention_mask = right_pad([item.token_ids for item in items], self._device)
        rows, columns = _response_positions(items, self._device)
        logits: dict[int, Tensor] = {}

        def reader(index: int) -> Callable[[Tensor], None]:
            def read(hidden: Tensor) -> None:
                logits[index] = self._layers[index].logits(hidden[rows, columns])

            return read

        readers = {index: reader(index) for index in self._layers}
        with read_hidden_states(self._model, readers):
            output = decoder(self._model)(
                input_ids=input_ids, attention_mask=attention_mask, use_cache=False
            )
        last = torch.tensor([item.num_tokens - 1 for item in items], device=self._device)
        last_hidden = output.last_hidden_state[torch.arange(len(items), device=self._device), last]
        rewards = head_logits(self._model, last_hidden).tolist()
        readings = self._readings(items, {index: found.cpu() for index, found in logits.items()})
        scores = [
            Score(base_reward=reward, readings=reading)
            for reward, reading in zip(rewards, readings, strict=True)
        ]
        return BatchResult(scores=scores, num_computed_tokens=input_ids.numel())

    def _readings(
        self, items: Sequence[Item], logits: dict[int, Tensor]
    ) -> list[dict[str, Reading]]:
        """Cuts each layer's [response tokens of the batch, probes] into readings, by item."""
        lengths = [item.response_end - item.response_start for item in items]
        readings: list[dict[str, Reading]] = [{} for _ in items]
        for index, layer in self._layers.items():
            parts = torch.split_with_sizes(logits[index], lengths)
            for item, reading, part in zip(items, readings, parts, strict=True):
                for column, probe in enumerate(layer.probes):
                    reading[probe.name] = _reading(probe, part[:, column], item.want_tokens)
        return readings


class _Layer:
    """The probes that read one layer, as one matrix: adding a probe adds a column, not a pass."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        self.probes = tuple(probes)
        self._weight = torch.stack([probe.weight for probe in probes], dim=1)
        self._bias = torch.tensor([probe.bias for probe in probes], device=self._weight.device)

    def logits(self, hidden: Tensor) -> Tensor:
        """`hidden` [tokens, hidden], any float dtype -> logits [tokens, probes], float32."""
        return hidden.float() @ self._weight + self._bias


def _response_positions(items: Sequence[Item], device: torch.device) -> tuple[Tensor, Tensor]:
    """Row and column in the padded batch of every response token, item after item."""
    lengths = torch.tensor([item.response_end - item.response_start for item in items])
    rows = torch.repeat_interleave(torch.arange(len(items)), lengths)
    columns = torch.cat([torch.arange(item.response_start, item.response_end) for item in items])
    return rows.to(device), columns.to(device)


def _reading(probe: Probe, token_logits: Tensor, want_tokens: bool) -> Reading:
    return Reading(
        score=probe.pool(token_logits),
        mean=token_logits.mean().item(),
        max=token_logits.max().item(),
        token_logits=tuple(token_logits.tolist()) if want_tokens else None,
    )
