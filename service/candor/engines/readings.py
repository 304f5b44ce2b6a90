"""One forward of the trunk -> R and every probe's `Reading`, by item.

The packed and the padded engine share this module. They differ in how a batch is laid out for the
trunk (`candor.forward.batch`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from candor.forward.batch import Forward
from candor.forward.capture import HiddenStateHooks, num_hidden_layers
from candor.forward.head import decoder, head_logits
from candor.item import BatchResult, Item, Reading, Score
from candor.probes.probe import Probe


class LayerProbes:
    """The probes of one layer as one matrix, so that another probe adds a column, not a pass."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        self.probes = tuple(probes)
        self._weight = torch.stack([probe.weight for probe in probes], dim=1)
        self._bias = torch.tensor([probe.bias for probe in probes], device=self._weight.device)

    def logits(self, hidden: Tensor) -> Tensor:
        """`hidden` [tokens, hidden], any float dtype -> logits [tokens, probes], float32."""
        return hidden.float() @ self._weight + self._bias


def by_layer(
    model: nn.Module, probes: Sequence[Probe], device: torch.device
) -> dict[int, LayerProbes]:
    """The probes on `device`, by the layer they read.

    Raises:
        ValueError: two probes share a name, or a probe's layer is not one of the model's.
    """
    names = [probe.name for probe in probes]
    if len(set(names)) != len(names):
        raise ValueError(f"two probes share a name: {sorted(names)}")
    top = num_hidden_layers(model)
    for probe in probes:
        if not 0 <= probe.layer <= top:
            raise ValueError(f"probe {probe.name!r}: layer {probe.layer} is not in 0..{top}")
    placed = [probe.to(device) for probe in probes]
    return {
        layer: LayerProbes([probe for probe in placed if probe.layer == layer])
        for layer in sorted({probe.layer for probe in placed})
    }


@torch.inference_mode()
def score_forward(
    model: nn.Module,
    hooks: HiddenStateHooks,
    layers: dict[int, LayerProbes],
    items: Sequence[Item],
    forward: Forward,
) -> BatchResult:
    """Runs `forward`. R is read at each item's last token, probes at its response tokens only.

    Several threads may run one model at once. Tokens that equal items share are read once, so that
    the items' scores are equal to the bit.
    """
    logits: dict[int, Tensor] = {}

    def reader(index: int) -> Callable[[Tensor], None]:
        def read(hidden: Tensor) -> None:
            found = layers[index].logits(hidden.flatten(0, 1)[forward.positions])
            logits[index] = found[forward.order].cpu()

        return read

    with hooks.read({index: reader(index) for index in layers}):
        output = decoder(model)(**forward.inputs)
    last, order = torch.unique(forward.last, return_inverse=True)
    rewards = head_logits(model, output.last_hidden_state.flatten(0, 1)[last])[order].tolist()
    scores = [
        Score(base_reward=reward, readings=reading)
        for reward, reading in zip(rewards, readings(items, layers, logits), strict=True)
    ]
    return BatchResult(scores=scores, num_computed_tokens=forward.num_tokens)


def readings(
    items: Sequence[Item], layers: dict[int, LayerProbes], logits: dict[int, Tensor]
) -> list[dict[str, Reading]]:
    """Splits each layer's logits [response tokens of the batch, probes] into readings by item."""
    lengths = [item.response_end - item.response_start for item in items]
    found: list[dict[str, Reading]] = [{} for _ in items]
    for index, layer in layers.items():
        parts = torch.split_with_sizes(logits[index], lengths)
        for item, reading, part in zip(items, found, parts, strict=True):
            for column, probe in enumerate(layer.probes):
                reading[probe.name] = _reading(probe, part[:, column], item.want_tokens)
    return found


def _reading(probe: Probe, token_logits: Tensor, want_tokens: bool) -> Reading:
    return Reading(
        score=probe.pool(token_logits),
        mean=token_logits.mean().item(),
        max=token_logits.max().item(),
        token_logits=tuple(token_logits.tolist()) if want_tokens else None,
    )
