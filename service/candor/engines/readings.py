"""One forward of the trunk -> R and every probe's `Reading`, by item.

The packed and the padded engine share this module. They differ in how a batch is laid out for the
trunk (`candor.forward.batch`). Items that may not share a forward (`candor.forward.company`) are
scored in several.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from candor.forward.batch import Forward
from candor.forward.capture import HiddenStateHooks, num_hidden_layers
from candor.forward.company import Company
from candor.forward.head import head_logits
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


def in_parts(
    company: Company, items: Sequence[Item], score: Callable[[Sequence[Item]], BatchResult]
) -> BatchResult:
    """`score` of each part of the items that may share a forward, as one result."""
    parts = company.parts([item.num_tokens for item in items])
    if len(parts) == 1:
        return score(items)
    results = [score([items[number] for number in part]) for part in parts]
    found = {
        number: one
        for part, result in zip(parts, results, strict=True)
        for number, one in zip(part, result.scores, strict=True)
    }
    computed = sum(result.num_computed_tokens for result in results)
    return BatchResult([found[number] for number in range(len(items))], computed)


def costs_in_parts(
    company: Company, items: Iterable[Item], costs: Callable[[Iterable[Item]], Iterator[int]]
) -> Iterator[int]:
    """`costs` of the parts together: over the first item, over the first two, and so on."""
    if not company.is_divided:
        yield from costs(items)
        return
    feeds: dict[object, tuple[deque[Item], Iterator[int]]] = {}
    totals: dict[object, int] = {}
    for number, item in enumerate(items):
        key = number if company.rule == "none" else company.key(item.num_tokens)
        if key not in feeds:
            waiting: deque[Item] = deque()
            feeds[key] = waiting, costs(iter(waiting.popleft, None))
        feeds[key][0].append(item)
        totals[key] = next(feeds[key][1])
        yield sum(totals.values())


@torch.inference_mode()
def score_forward(
    model: nn.Module,
    company: Company,
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
        hidden = company.run(forward.inputs)
    last, order = torch.unique(forward.last, return_inverse=True)
    rewards = head_logits(model, hidden.flatten(0, 1)[last])[order].tolist()
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
