"""Chooses the engine: packed if its scores equal the model's own on a check, else padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from transformers import PreTrainedModel

from candor import logs
from candor.engines.packed import CHECK_TOLERANCE, PackedEngine, check_items, why_unusable
from candor.engines.padded import PaddedEngine
from candor.engines.prefix_cache import PrefixCache
from candor.engines.threads import forward_changes_model
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
    """The engine that `name` names. `packed` is first compared with the padded forward.

    The padded engine, which is slower, serves a model if its attention cannot be packed, if packing
    changes its scores, or if cached contexts change its scores. The log has the reason.

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
    if forward_changes_model(model):
        prefix_cache = None  # cached keys are rotated for the batch that computed them
    packed = PackedEngine(model, probes, device=device, prefix_cache=prefix_cache)
    reason = why_unusable(packed, expected, items)
    if prefix_cache is not None:
        reason = reason or why_unusable(packed, expected, items)
    taken = reason is None and take_over_blocks(model, packed, items)
    if prefix_cache is not None:
        prefix_cache.clear()  # drops the contexts of these checks
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
    """Computes plain blocks with `candor.forward.blocks`, if the scores then equal those of the
    model's own blocks. Returns whether it does."""
    before = packed.score(items).scores
    if not blocks.take_over(model):
        return False
    tolerance = 1e-3 if model.dtype == torch.float32 else CHECK_TOLERANCE
    reason = why_unusable(packed, before, items, tolerance)
    if reason is not None:
        blocks.give_back(model)
        log.warning("blocks_refused", reason=reason)
    return reason is None
