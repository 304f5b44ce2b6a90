"""Which engine runs: the packed one where it proves to give this model's own numbers, else the
padded one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from transformers import PreTrainedModel

from candor import logs
from candor.engines.packed import CHECK_TOLERANCE, PackedEngine, check_items, self_check
from candor.engines.padded import PaddedEngine
from candor.engines.prefix_cache import PrefixCache
from candor.engines.threads import changes_in_its_forward
from candor.forward import blocks
from candor.forward.packed_attention import attention_path
from candor.item import Engine, Item
from candor.probes.probe import Probe

log = logs.get(__name__)

EngineName = Literal["packed", "padded"]


def build_engine(
    name: EngineName,
    model: PreTrainedModel,
    probes: Sequence[Probe],
    *,
    device: str,
    prefix_cache: PrefixCache | None = None,
) -> Engine:
    """The engine asked for; `packed` is compared with the padded forward before it is trusted.

    A model whose attention cannot be packed (or is, and comes out different) is served by the
    padded engine, with the reason in the log: slower, never wrong. So is one that gives other
    numbers where it finds contexts in its cache.

    Args:
        prefix_cache: for the packed engine.

    Raises:
        ValueError: two probes share a name, or a probe's layer is not one of the model's.
    """
    padded = PaddedEngine(model, probes, device=device)
    if name == "padded":
        return padded
    items = check_items(model.config.get_text_config().vocab_size)
    expected = padded.score(items).scores
    stock = model.config._attn_implementation
    if changes_in_its_forward(model):
        prefix_cache = None  # its keys are rotated for the batch they were computed in
    packed = PackedEngine(model, probes, device=device, prefix_cache=prefix_cache)
    reason = self_check(packed, expected, items)
    if prefix_cache is not None:
        reason = reason or self_check(packed, expected, items)
    taken = reason is None and take_over_blocks(model, packed, items)
    if prefix_cache is not None:
        prefix_cache.clear()  # of what was computed for these checks
    if reason is None:
        log.info(
            "packed_engine",
            attention=attention_path(model),
            blocks="own" if taken else "transformers",
        )
        return packed
    log.warning("packed_engine_refused", reason=reason, engine=padded.name)
    model.set_attn_implementation(stock)
    return padded


def take_over_blocks(model: PreTrainedModel, packed: Engine, items: Sequence[Item]) -> bool:
    """Computes plain blocks by `candor.forward.blocks`, if that gives the scores of the model's
    own."""
    before = packed.score(items).scores
    if not blocks.take_over(model):
        return False
    tolerance = 1e-3 if model.dtype == torch.float32 else CHECK_TOLERANCE
    reason = self_check(packed, before, items, tolerance)
    if reason is not None:
        blocks.give_back(model)
        log.warning("blocks_refused", reason=reason)
    return reason is None
