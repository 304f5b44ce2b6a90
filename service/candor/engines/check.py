"""Compares an engine with the model's own forward of each text alone.

`check_items` makes texts with every case of a layout, and texts just below and just above each
length that config.json names. `why_wrong` compares scores from end to end. In 16 bits the rounding
of many blocks adds up to more than a small fault would make, so `why_blocks_wrong` compares block
by block: each block gets the hidden states that it gets in the model's own forward, and only its
own rounding is left.
"""

from __future__ import annotations

import copy
import random
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from candor.forward.batch import Forward, Spans, padded
from candor.forward.company import Company
from candor.forward.head import decoder_blocks, final_norm
from candor.item import Item, Score
from candor.models.causes import cause_of

CHECK_TOLERANCE = 0.2
"""Largest mean difference from the model's own forward in 16 bits, in standard deviations of its
scores. In bfloat16, right layouts differ by 0.03 to 0.1; layouts that lose a prefix differ by 1 or
more. Smaller faults are found block by block."""

FLOAT32_TOLERANCE = 1e-3
"""Largest difference of any text in float32, in the same unit. Right layouts differ by 1e-5."""

BLOCK_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.01, torch.bfloat16: 0.05}
"""Largest difference of a block's output from its own forward at one token, as a share of what the
block adds to the hidden states there, beyond the rounding of the hidden states."""

MAX_SHARE = 0.01
"""Share of the tokens that may differ by more: in 16 bits, rounding makes a mixture choose another
expert for a token now and then. A fault at the edge of each shared prefix moves 4 % of them."""

MAX_CHECK_TOKENS = 2048
"""Longest text of the check."""

MAX_CHECK_FLOPS = {"cpu": 8e11, "cuda": 8e13}
"""Bound on the operations of one text's forward; a larger model gets shorter texts."""

_LENGTH = re.compile(r"window(?!_layers)|chunk|original_max|block_size|index_topk|attention_span")

LayOut = Callable[[Sequence[Sequence[int]], Spans, torch.device], Forward]


def boundaries(config: PreTrainedConfig) -> set[int]:
    """Lengths in tokens that the configuration names and at which the model may change what it
    does: windows, chunks, the rotary embedding's original length."""

    def numbers(value: Any, name: str) -> Iterator[int]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from numbers(inner, str(key))
        elif isinstance(value, int) and not isinstance(value, bool) and _LENGTH.search(name):
            yield value

    return {number for number in numbers(config.to_dict(), "") if number > 8}


def check_items(
    vocabulary: int, lengths: Iterable[int] = (), window: int | None = None
) -> list[Item]:
    """Random token ids with every case of a layout: a shared context, a context within another, a
    sequence that is another's prefix, a duplicate, sequences of one length, and sequences that
    share nothing.

    Args:
        lengths: for each, two sequences that share a context: a shorter and a longer one.
        window: the most tokens of a sequence.
    """
    draw = random.Random(0)

    def some(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(vocabulary) for _ in range(count))

    context, turn, reply = some(40), some(24), some(12)
    sequences = [context + some(n) for n in (9, 17, 30)]
    sequences += [context + turn + some(n) for n in (8, 15)]
    sequences += [context + turn + reply, context + turn, context + turn + reply]
    sequences += [context + some(9), some(21), some(21), some(50)]
    starts = [len(ids) // 2 for ids in sequences]
    for length in lengths:
        before = some(length - 4)
        sequences += [before + some(n) for n in (3, 20)]
        starts += [length - 4] * 2
    items = []
    for ids, start in zip(sequences, starts, strict=True):
        cut = ids[:window]
        items.append(Item(cut, min(start, len(cut) - 1), len(cut)))
    return items


def items_for(model: PreTrainedModel, company: Company) -> list[Item]:
    """`check_items` past every boundary that is cheap enough to reach."""
    config = model.config.get_text_config()
    size = sum(parameter.numel() for parameter in model.parameters())
    budget = MAX_CHECK_FLOPS.get(model.device.type, MAX_CHECK_FLOPS["cpu"])
    longest = min(MAX_CHECK_TOKENS, int(budget / (2 * size)))
    window = getattr(config, "max_position_embeddings", None)
    lengths = sorted(boundaries(config) | set(company.boundaries))
    return check_items(config.vocab_size, [n for n in lengths if n <= longest], window)


def why_wrong(
    found: Sequence[Score],
    expected: Sequence[Score],
    dtype: torch.dtype,
    *,
    exact: float = FLOAT32_TOLERANCE,
) -> str | None:
    """Compares R and every probe's S with those of the model's own forward.

    Args:
        exact: the tolerance in float32.

    Returns:
        None if they agree within rounding, else the reason why they do not.
    """
    if not all(score.is_finite for score in expected):
        return "the model's own scores are not finite"
    for name in ("R", *expected[0].readings):
        own = [_value(score, name) for score in expected]
        gaps = [abs(_value(score, name) - b) for score, b in zip(found, own, strict=True)]
        spread = statistics.pstdev(own)
        in_float32 = dtype == torch.float32
        gap = max(gaps) if in_float32 else statistics.fmean(gaps)
        tolerance = exact if in_float32 else CHECK_TOLERANCE
        if not gap <= tolerance * spread:  # "not <=", so that NaN fails too
            # Not the probe's name: callers see the reason, and must not learn of a monitor.
            which = "" if name == "R" else " (of a probe)"
            return (
                f"its scores{which} differ from the model's own forward by {gap:.3g}; the standard "
                f"deviation of the model's own scores is {spread:.3g}"
            )
    return None


@torch.inference_mode()
def why_head_unknown(
    model: PreTrainedModel, company: Company, item: Item, own: Score
) -> str | None:
    """Compares R with the number that transformers' own class for the model gives.

    The class may read another token than the last, or put more than the head on the trunk.
    """
    config = model.config.get_text_config()
    head, pad = model.score, config.pad_token_id
    assert isinstance(head, nn.Linear)
    config.pad_token_id = None  # transformers looks for it, and the text may contain it
    company.reset()
    try:
        model.score = copy.deepcopy(head).to(model.dtype)  # the head is kept in float32
        ids = torch.tensor([item.token_ids], device=model.device)
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    except Exception as error:
        return cause_of(error)
    finally:
        model.score, config.pad_token_id = head, pad
    found = logits.float().flatten().tolist()
    close = 1e-4 if model.dtype == torch.float32 else 0.1
    if len(found) == 1 and abs(found[0] - own.base_reward) <= close * max(1.0, abs(found[0])):
        return None
    return (
        f"transformers' own logits are {found}, and the head at the last token gives "
        f"{own.base_reward:.4g}"
    )


def _value(score: Score, name: str) -> float:
    return score.base_reward if name == "R" else score.readings[name].score


@torch.inference_mode()
def why_blocks_wrong(
    model: PreTrainedModel,
    company: Company,
    items: Sequence[Item],
    own: Sequence[Tensor],
    lay_out: LayOut,
) -> str | None:
    """Compares each block's output in batches of `items` with the model's own forward.

    Args:
        own: `own_states` of the items.
        lay_out: `candor.forward.batch.padded` or `packed`.
    """
    sequences = [item.token_ids for item in items]
    tolerance = BLOCK_TOLERANCE.get(model.dtype, 0.05)
    gaps: dict[int, list[Tensor]] = {}
    for part in company.parts([item.num_tokens for item in items]):
        some = [sequences[number] for number in part]
        forward = lay_out(some, [(0, len(ids)) for ids in some], model.device)
        places = forward.positions[forward.order]
        expected = torch.cat([own[number] for number in part], dim=1)

        def compare(
            index: int, hidden: Tensor, places: Tensor = places, expected: Tensor = expected
        ) -> Tensor:
            if index:
                found = hidden.flatten(0, 1)[places].cpu()
                gap = _gaps(found, expected[index], expected[index - 1])
                gaps.setdefault(index - 1, []).append(gap)
            forced = hidden.clone()
            forced.flatten(0, 1)[places] = expected[index].to(hidden.device)
            return forced

        with _between_blocks(model, compare):
            company.run(forward.inputs)
    for block, parts in gaps.items():
        wrong = ~(torch.cat(parts) <= tolerance)  # "not <=", so that NaN counts too
        if float(wrong.float().mean()) > MAX_SHARE:
            return (
                f"block {block} differs from its own forward by more than {tolerance} of what it "
                f"adds, at {int(wrong.sum())} of {len(wrong)} tokens"
            )
    return None


@torch.inference_mode()
def own_states(model: PreTrainedModel, company: Company, items: Sequence[Item]) -> list[Tensor]:
    """For each item, what the blocks and the final norm get in its own forward, alone:
    [blocks + 1, tokens, hidden] in the model's dtype, on the CPU."""
    own = []
    for item in items:
        states: list[Tensor] = []

        def keep(index: int, hidden: Tensor, states: list[Tensor] = states) -> Tensor:
            states.append(hidden[0].cpu())
            return hidden

        with _between_blocks(model, keep):
            company.run(padded([item.token_ids], [(0, item.num_tokens)], model.device).inputs)
        own.append(torch.stack(states))
    return own


def _gaps(found: Tensor, own: Tensor, before: Tensor) -> Tensor:
    """By token: the difference as a share of what the block adds, less the rounding of the hidden
    states to which it adds."""
    rounding = 2 * torch.finfo(own.dtype).eps * _rms(own)
    added = _rms(own.float() - before.float()).clamp_min(1e-12)
    return (_rms(found.float() - own.float()) - rounding).clamp_min(0) / added


def _rms(states: Tensor) -> Tensor:
    return states.float().pow(2).mean(-1).sqrt()


@contextmanager
def _between_blocks(model: nn.Module, see: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """Calls `see(index, hidden)` with what block `index` gets (the final norm: the last index), and
    hands on what it returns."""

    def hook(index: int) -> Callable[..., Any]:
        def before(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
            if args:
                return (see(index, args[0]), *args[1:]), kwargs
            return args, kwargs | {"hidden_states": see(index, kwargs["hidden_states"])}

        return before

    modules = [*decoder_blocks(model), final_norm(model)]
    handles = [
        module.register_forward_pre_hook(hook(index), with_kwargs=True)
        for index, module in enumerate(modules)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
