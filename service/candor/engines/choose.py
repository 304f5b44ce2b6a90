"""Chooses the engine: packed if it gives every text the model's own number, else padded.

The model's own number is that of its own forward of the text alone. The packed engine must give it
in company and after a cache hit, the padded engine in company; else padded texts share a forward
only with texts of equal length, or with none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from transformers import PreTrainedModel

from candor import logs
from candor.engines.check import (
    FLOAT32_TOLERANCE,
    LayOut,
    items_for,
    own_states,
    why_blocks_wrong,
    why_head_unknown,
    why_wrong,
)
from candor.engines.mixing import NUM_TOKENS, why_not_packable, why_not_padded
from candor.engines.packed import PackedEngine
from candor.engines.padded import PaddedEngine
from candor.engines.prefix_cache import PrefixCache
from candor.forward import batch, blocks
from candor.forward.company import Rule
from candor.forward.packed_attention import attention_path
from candor.item import Item, Score
from candor.models.causes import cause_of
from candor.models.checkpoint import ModelRefused
from candor.probes.probe import Probe

log = logs.get(__name__)

EngineName = Literal["packed", "padded"]

SHARING: dict[Rule, str] = {
    "any": "",
    "equal": "; only texts of equal length share a forward, because padding changes its scores",
    "none": "; every text is computed alone, because company changes its scores",
}


@dataclass(frozen=True, slots=True, eq=False)
class _Check:
    """The texts of the check, and what the model's own forward of each alone gives: the scores, and
    in 16 bits what each block gets."""

    model: PreTrainedModel
    items: list[Item]
    scores: list[Score]
    states: list[Tensor]

    def why_unusable(self, engine: PackedEngine | PaddedEngine, lay_out: LayOut) -> str | None:
        try:
            found = engine.score(self.items).scores
            reason = why_wrong(found, self.scores, self.model.dtype)
            if reason is not None or self.model.dtype == torch.float32:
                return reason
            return why_blocks_wrong(self.model, engine.company, self.items, self.states, lay_out)
        except Exception as error:
            return cause_of(error)


def build_engine(
    name: EngineName,
    model: PreTrainedModel,
    probes: Sequence[Probe],
    *,
    device: str,
    prefix_cache: PrefixCache | None = None,
) -> PackedEngine | PaddedEngine:
    """The engine that `name` names, compared with the model's own forward of each text alone.

    The padded engine, which is slower, serves a model in which more than attention mixes tokens, or
    whose scores change by packing or by cached contexts. The log and the engine's `reason` say why.

    Args:
        prefix_cache: for the packed engine.

    Raises:
        ModelRefused: the model's own forward fails (too little memory, for example), its own class
            reads its head otherwise, or it does not give the same scores twice.
        ValueError: two probes share a name, or a probe's layer is not one of the model's.
    """
    try:
        padded, check = _padded(model, probes, device)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        raise ModelRefused(f"the model's own forward fails: {cause_of(error)}") from error
    if name == "padded":
        padded.reason = f"asked for{SHARING[padded.company.rule]}"
        return padded
    stock = model.config._attn_implementation
    longest = max([NUM_TOKENS, *(item.num_tokens for item in check.items)])
    reason = (
        "its scores change in the company of other texts" if padded.company.rule != "any" else None
    )
    reason = reason or why_not_packable(model, padded.company, longest)
    if reason is None:
        packed, reason = _packed(model, probes, device, prefix_cache, check)
        if reason is None:
            return packed
    log.warning("packed_engine_refused", reason=reason, engine=padded.name)
    model.set_attn_implementation(stock)
    padded.reason = f"cannot be packed: {reason}{SHARING[padded.company.rule]}"
    return padded


def _padded(
    model: PreTrainedModel, probes: Sequence[Probe], device: str
) -> tuple[PaddedEngine, _Check]:
    """The padded engine with the widest rule that gives every text the number it gets alone."""
    engine = PaddedEngine(model, probes, device=device)
    items = items_for(model, engine.company)
    # Texts that share nothing: a probe that pools by its maximum gives texts that begin alike the
    # same S, and then any rounding is more than their standard deviation.
    some = [items[0], *items[9:12]]
    first, again = ([engine.score([item]).scores[0] for item in some] for _ in range(2))
    _refuse_not_finite(first)
    if reason := why_wrong(again, first, model.dtype):
        raise ModelRefused(f"this model does not give the same scores twice: {reason}")
    _plain_attention(model, engine, some)
    scores = [engine.score([item]).scores[0] for item in items]
    _refuse_not_finite(scores)
    if reason := why_head_unknown(model, engine.company, items[0], scores[0]):
        raise ModelRefused(f"{type(model).__name__} has a head that Candor does not know: {reason}")
    in_float32 = model.dtype == torch.float32  # there the scores show a fault of any block
    states = [] if in_float32 else own_states(model, engine.company, items)
    check = _Check(model, items, scores, states)
    reason = why_not_padded(model)
    rules: list[Rule] = [rule for rule in get_args(Rule) if rule != "any" or reason is None]
    for rule in rules:
        engine = PaddedEngine(model, probes, device=device, rule=rule)
        reason = check.why_unusable(engine, batch.padded)
        if reason is None:
            return engine, check
        log.warning("padding_refused", reason=reason, sharing=rule)
    raise ModelRefused(f"this model does not give the same scores twice: {reason}")


def _plain_attention(model: PreTrainedModel, engine: PaddedEngine, items: list[Item]) -> None:
    """Leaves the model with transformers' eager attention where its faster one gives other scores:
    a faster one may leave out what a model adds to its scores, and does not say so."""
    stock = model.config._attn_implementation
    if stock == "eager" or not model._can_set_attn_implementation():
        return
    in_float32 = model.dtype == torch.float32
    try:
        model.set_attn_implementation("eager")
        # In 16 bits a few texts' scores round as far apart as a fault would move them: block by
        # block, then.
        scores = [engine.score([item]).scores[0] for item in items] if in_float32 else []
        states = [] if in_float32 else own_states(model, engine.company, items)
    except Exception:
        model.set_attn_implementation(stock)
        return
    model.set_attn_implementation(stock)
    if in_float32:
        found = [engine.score([item]).scores[0] for item in items]
        reason = why_wrong(found, scores, model.dtype, exact=FLOAT32_TOLERANCE / 10)
    else:
        reason = why_blocks_wrong(model, engine.company, items, states, batch.padded)
    if reason is not None:
        model.set_attn_implementation("eager")
        log.warning("eager_attention", reason=f"with {stock}, {reason}")


def _refuse_not_finite(scores: Sequence[Score]) -> None:
    if not all(score.is_finite for score in scores):
        raise ModelRefused(
            "the model gives NaN or infinity for random tokens: its weights are broken, or they "
            "overflow in this number type (try --dtype float32)"
        )


def _packed(
    model: PreTrainedModel,
    probes: Sequence[Probe],
    device: str,
    prefix_cache: PrefixCache | None,
    check: _Check,
) -> tuple[PackedEngine, str | None]:
    """The packed engine, and why it cannot be used."""
    packed = PackedEngine(model, probes, device=device, prefix_cache=prefix_cache)
    reason = check.why_unusable(packed, batch.packed)
    if prefix_cache is not None:
        reason = reason or check.why_unusable(packed, batch.packed)
    taken = reason is None and _take_over_blocks(model, packed, check)
    packed.forget()  # the contexts of these checks
    if reason is None:
        attention = attention_path(model)
        packed.reason = "its scores equal the model's own forward of each text alone"
        log.info("packed_engine", attention=attention, blocks="own" if taken else "transformers")
    return packed, reason


def _take_over_blocks(model: PreTrainedModel, packed: PackedEngine, check: _Check) -> bool:
    """Computes plain blocks with `candor.forward.blocks`, if the scores are then still right.
    Returns whether it does."""
    if not blocks.take_over(model):
        return False
    packed.forget()
    reason = check.why_unusable(packed, batch.packed)
    if reason is not None:
        blocks.give_back(model)
        log.warning("blocks_refused", reason=reason)
    return reason is None
