"""The packed engine: one sequence per batch, no padding, every distinct prefix computed once.

It works for every decoder that uses transformers' attention interface. `why_unusable` tests whether
a model does so, and whether the scores equal those of its own forward.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterable, Iterator, Sequence

import torch
from transformers import PreTrainedModel

from candor.engines.prefix_cache import PrefixCache
from candor.engines.readings import by_layer, score_forward
from candor.engines.threads import trim_after_batch
from candor.forward.batch import packed
from candor.forward.capture import HiddenStateHooks, num_hidden_layers
from candor.forward.packed_attention import NAME
from candor.forward.prefix import count_distinct
from candor.item import BatchResult, Engine, Item, Score
from candor.probes.probe import Probe

CHECK_TOLERANCE = 0.2
"""Largest mean difference from the model's own forward, in standard deviations of its scores. In
bfloat16, right layouts differ by 0.03 to 0.1; layouts that lose a prefix differ by 1 or more."""


class PackedEngine(Engine):
    """Scores items with one reward model and any number of probes. Replaces the model's attention.

    Args:
        model: sequence classification with one label, in eval mode, on `device`. Its attention
            implementation is replaced, so no other code can run the model afterwards.
        probes: names are distinct; layers index `hidden_states` (0 = embeddings).
        device: the model's device.
        prefix_cache: keeps contexts for later forwards. None computes every context again.

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
        self._model = model
        self._prefix_cache = prefix_cache
        self._device = torch.device(device)
        self._layers = by_layer(model, probes, self._device)
        self._hooks = HiddenStateHooks(model, self._layers)
        model.set_attn_implementation(NAME)

    def costs(self, items: Iterable[Item]) -> Iterator[int]:
        """Distinct tokens, as if no context were cached."""
        return count_distinct(item.sort_key for item in items)

    def score(self, items: Sequence[Item]) -> BatchResult:
        """One forward. R is read at each item's last token, probes at its response tokens only."""
        cache = self._prefix_cache
        contexts = None if cache is None else cache.look_up(items)
        forward = packed(
            [item.token_ids for item in items],
            [(item.response_start, item.response_end) for item in items],
            self._device,
            [item.sort_key for item in items],
            contexts.cached if contexts else None,
            contexts.to_keep if contexts else None,
            read_last_layer=num_hidden_layers(self._model) in self._layers,
        )
        result = score_forward(self._model, self._hooks, self._layers, items, forward)
        if cache is not None and contexts is not None:
            cache.keep(contexts, forward.kept_prefixes, forward.num_cached_tokens)
        if self._device.type == "cpu":
            trim_after_batch(result.num_computed_tokens)
        return result

    def forget(self) -> None:
        """Drops the cached contexts."""
        if self._prefix_cache is not None:
            self._prefix_cache.clear()


def check_items(vocabulary: int) -> list[Item]:
    """Random token ids with every case of a layout: a shared context, a context within another, a
    sequence that is another's prefix, a duplicate, and sequences that share nothing."""
    draw = random.Random(0)

    def some(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(vocabulary) for _ in range(count))

    context, turn, reply = some(40), some(24), some(12)
    sequences = [context + some(n) for n in (9, 17, 30)]
    sequences += [context + turn + some(n) for n in (8, 15)]
    sequences += [context + turn + reply, context + turn, context + turn + reply]
    sequences += [some(n) for n in (21, 50)]
    return [Item(ids, len(ids) // 2, len(ids)) for ids in sequences]


def why_unusable(
    engine: Engine,
    expected: Sequence[Score],
    items: Sequence[Item],
    tolerance: float = CHECK_TOLERANCE,
) -> str | None:
    """Compares the scores of `engine` with `expected`, the scores of the model's own forward.

    Args:
        tolerance: largest mean difference allowed, in standard deviations of the scores.

    Returns:
        None if they agree, else the reason why `engine` cannot be used.
    """
    try:
        found = engine.score(items).scores
    except Exception as error:
        return f"{type(error).__name__}: {error}".split("\n", 1)[0]
    if not all(score.is_finite for score in expected):
        return "the model's own scores are not finite"
    own = [score.base_reward for score in expected]
    gaps = [abs(a.base_reward - b) for a, b in zip(found, own, strict=True)]
    spread = statistics.pstdev(own)
    if not statistics.fmean(gaps) <= tolerance * spread:  # "not <=", so that NaN fails too
        return (
            f"its scores differ from the model's own forward by {statistics.fmean(gaps):.3g} on "
            f"average; the standard deviation of the model's own scores is {spread:.3g}"
        )
    return None
