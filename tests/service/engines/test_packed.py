"""The packed engine compared with the padded engine, which has its own test against Hugging Face's
forward.

Tolerance: 1e-4 in float32, as for the padded engine. The controls show the effect of a wrong
layout.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from candor.engines.check import check_items
from candor.engines.choose import build_engine
from candor.engines.packed import PackedEngine
from candor.engines.padded import PaddedEngine
from candor.forward import blocks
from candor.forward.prefix import MIN_SAVED
from candor.item import Score
from tests.forward.kernels import PATHS, computed_by
from tests.service.engines.material import (
    FAMILIES,
    TOLERANCE,
    assert_equal,
    engines,
    grouped_items,
    make_items,
    make_probes,
)
from tests.tiny import tiny_llama, tiny_mistral


@pytest.mark.parametrize("family", FAMILIES)
def test_groups_are_scored_as_the_padded_engine_scores_them(
    family: Callable[[], PreTrainedModel],
) -> None:
    padded, packed_engine = engines(family())
    for items in (grouped_items(0), make_items(), check_items(320)):
        expected, found = padded.score(items), packed_engine.score(items)
        assert_equal(found.scores, expected.scores, TOLERANCE)
        *_, cost = packed_engine.costs(items)
        assert abs(cost - found.num_computed_tokens) <= MIN_SAVED
    *_, cost = packed_engine.costs(grouped_items(0))
    assert cost < 0.7 * sum(item.num_tokens for item in grouped_items(0))


_PADDED, _PACKED = engines(tiny_llama())


_PADDED_32, _PACKED_32 = engines(tiny_llama(head_dim=32))
assert blocks.take_over(_PACKED_32._model)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("pair", [(_PADDED, _PACKED), (_PADDED_32, _PACKED_32)])
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 5))
def test_random_groups_splits_and_duplicates(
    pair: tuple[PaddedEngine, PackedEngine], path: str, seed: int, groups: int, size: int
) -> None:
    padded, packed_engine = pair
    items = grouped_items(seed, groups, size)
    expected = padded.score(items).scores
    cut = seed % len(items)
    parts = [part for part in (items[:cut], items[cut:]) if part]
    with computed_by(path):
        assert_equal(packed_engine.score(items).scores, expected, TOLERANCE)
        again = [score for part in parts for score in packed_engine.score(part).scores]
        assert_equal(again, expected, TOLERANCE)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("window", [4, 16, 33])
def test_a_sliding_window_counts_back_over_the_shared_context(window: int, path: str) -> None:
    padded, packed_engine = engines(tiny_mistral(sliding_window=window))
    items = grouped_items(3)
    expected = padded.score(items).scores
    with computed_by(path):
        assert_equal(packed_engine.score(items).scores, expected, TOLERANCE)
    without, _ = engines(tiny_mistral(sliding_window=None))  # control: the window matters here
    gaps = [
        abs(a.base_reward - b.base_reward)
        for a, b in zip(without.score(items).scores, expected, strict=True)
    ]
    assert max(gaps) > 100 * TOLERANCE


def total_gap(found: Sequence[Score], exact: Sequence[Score]) -> float:
    return sum(abs(a.base_reward - b.base_reward) for a, b in zip(found, exact, strict=True))


@pytest.mark.parametrize("path", PATHS)
def test_in_bfloat16_packing_is_no_less_exact_than_padding(path: str) -> None:
    """Compared with float32, the served packed engine errs no more than the padded engine. Both
    errors are rounding noise, so eight models are pooled and a tenth is allowed for chance."""
    packed_error = padded_error = 0.0
    for seed in range(8):
        items = [item for part in range(4) for item in grouped_items(4 * seed + part)]
        model = tiny_llama(seed=seed)
        exact = PaddedEngine(model, [], device="cpu").score(items).scores
        half = copy.deepcopy(model).bfloat16()
        padded = PaddedEngine(copy.deepcopy(half), [], device="cpu").score(items).scores
        with computed_by(path):
            found = build_engine("packed", half, [], device="cpu").score(items).scores
        packed_error += total_gap(found, exact)
        padded_error += total_gap(padded, exact)
    assert 0 < packed_error <= 1.1 * padded_error


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_cuda_device_gives_the_same_numbers(family: Callable[[], PreTrainedModel]) -> None:
    """Tolerance 1e-3: float32 on another device, with other kernels."""
    model = family()
    probes = make_probes(model)
    items = grouped_items(1)
    on_cpu = PaddedEngine(copy.deepcopy(model), probes, device="cpu").score(items).scores
    on_cuda = PackedEngine(model.cuda(), probes, device="cuda").score(items).scores
    assert_equal(on_cuda, on_cpu, 1e-3)


def test_equal_responses_are_read_once() -> None:
    """The memory for activations does not grow with the number of equal responses."""
    model = tiny_llama()
    _, packed_engine = engines(model)
    item = grouped_items(0)[0]
    seen: list[int] = []
    for layer in packed_engine._layers.values():
        logits = layer.logits

        def counted(hidden: Tensor, logits: Callable[[Tensor], Tensor] = logits) -> Tensor:
            seen.append(len(hidden))
            return logits(hidden)

        layer.logits = counted  # type: ignore[method-assign]
    scores = packed_engine.score([item] * 50).scores
    assert set(seen) == {item.response_end - item.response_start}
    assert_equal(scores, [scores[0]] * 50, TOLERANCE)


@pytest.mark.parametrize("engine", engines(tiny_llama()), ids=lambda engine: engine.name)
def test_threads_that_score_at_once_get_the_scores_of_one_alone(
    engine: PaddedEngine | PackedEngine,
) -> None:
    """Equal to the bit: R and every layer's readings of 24 batches, four at once on one model."""
    batches = [grouped_items(seed) for seed in range(24)]
    alone = [engine.score(items).scores for items in batches]
    with ThreadPoolExecutor(4) as pool:
        together = [result.scores for result in pool.map(engine.score, batches)]
    assert together == alone
