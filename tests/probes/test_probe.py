"""`Probe`: logits by hand, the five poolings, and what it refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from candor.probes.probe import Pooling, Probe

WEIGHT = torch.tensor([1.0, -2.0, 0.5])


def probe(pooling: Pooling = "mean") -> Probe:
    return Probe("p", WEIGHT, bias=0.25, layer=1, pooling=pooling)


def test_logits_are_the_affine_map_over_the_last_dimension() -> None:
    hidden = torch.tensor([[[1.0, 1.0, 2.0], [0.0, 1.0, 0.0]]])
    assert probe().logits(hidden).tolist() == [[0.25, -1.75]]


def test_logits_of_bfloat16_activations_are_computed_in_float32() -> None:
    hidden = torch.tensor([[1.0, 1.0, 2.0009765625]])  # rounds to 2 in bfloat16
    logits = probe().logits(hidden.bfloat16())
    assert logits.dtype == torch.float32
    assert logits.tolist() == [0.25]
    assert probe().logits(hidden).tolist() != [0.25]


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [("mean", 5.5), ("max", 10.0), ("last", 1.0), ("topk", 10.0), ("rolling-max", 5.5)],
)
def test_each_pooling_of_ten_tokens(pooling: Pooling, expected: float) -> None:
    logits = torch.arange(10.0, 0.0, -1.0)  # 10, 9, ..., 1
    assert probe(pooling).pool(logits) == expected


def test_topk_takes_a_tenth_of_the_tokens_rounded_up() -> None:
    logits = torch.arange(11.0)  # 11 tokens: the two largest, 10 and 9
    assert probe("topk").pool(logits) == 9.5
    assert probe("topk").pool(torch.tensor([3.0])) == 3.0


@pytest.mark.parametrize("num_tokens", [1, 9, 10, 11, 64])
def test_rolling_max_is_the_largest_mean_over_ten_tokens_in_a_row(num_tokens: int) -> None:
    logits = np.random.default_rng(num_tokens).normal(size=num_tokens).astype(np.float32)
    size = min(10, num_tokens)
    starts = range(num_tokens - size + 1)
    expected = max(float(np.mean(logits[start : start + size])) for start in starts)
    found = probe("rolling-max").pool(torch.from_numpy(logits))
    assert found == pytest.approx(expected, abs=1e-6)
    # A response of at most ten tokens has one such mean; a longer one has a higher.
    assert (found == pytest.approx(float(logits.mean()), abs=1e-6)) == (num_tokens <= 10)


def auroc_of(pooling: Pooling, ones: Sequence[Tensor], zeros: Sequence[Tensor]) -> float:
    scores = [[probe(pooling).pool(logits) for logits in rows] for rows in (ones, zeros)]
    return float(np.mean([[one > zero for zero in scores[1]] for one in scores[0]]))


def test_a_short_trait_in_a_long_text_is_lost_to_the_mean_and_not_to_rolling_max() -> None:
    draw = torch.Generator().manual_seed(0)

    def responses(num_tokens: int, trait: float) -> list[Tensor]:
        """Forty responses of noise, each with twelve tokens in a row raised by `trait`."""
        rows = torch.randn(40, num_tokens, generator=draw)
        for number, row in enumerate(rows):
            start = number * (num_tokens - 12) // 39
            row[start : start + 12] += trait
        return list(rows)

    def aurocs(num_tokens: int, trait: float) -> dict[Pooling, float]:
        ones, zeros = responses(num_tokens, trait), responses(num_tokens, 0.0)
        poolings: tuple[Pooling, ...] = "mean", "max", "rolling-max"
        return {pooling: auroc_of(pooling, ones, zeros) for pooling in poolings}

    short, long = aurocs(12, 1.5), aurocs(16 * 24, 1.5)
    assert min(short["mean"], short["rolling-max"]) > 0.99
    assert long["mean"] < 0.85
    assert long["max"] < 0.85  # one token is noise
    assert long["rolling-max"] > 0.95
    # The control: without a trait no pooling finds one.
    assert all(0.3 < value < 0.7 for value in aurocs(16 * 24, 0.0).values())


def test_the_mean_of_token_logits_is_the_logit_of_the_mean_activation() -> None:
    hidden = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    pooled = probe().pool(probe().logits(hidden))
    assert pooled == pytest.approx(probe().logits(hidden.mean(0)).item(), abs=1e-6)


def test_an_empty_response_has_no_score() -> None:
    with pytest.raises(ValueError, match="T >= 1"):
        probe().pool(torch.empty(0))


def test_a_probe_is_frozen_and_moving_it_keeps_everything() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        probe().bias = 1.0  # type: ignore[misc]
    moved = probe("topk").to("cpu")
    assert (moved.name, moved.bias, moved.layer, moved.pooling) == ("p", 0.25, 1, "topk")
    assert torch.equal(moved.weight, WEIGHT)


@pytest.mark.parametrize(
    ("changes", "blamed"),
    [
        ({"weight": WEIGHT.double()}, "float32"),
        ({"weight": WEIGHT[None]}, "float32"),
        ({"weight": torch.tensor([1.0, float("nan"), 0.0])}, "not finite"),
        ({"bias": float("inf")}, "not finite"),
        ({"pooling": "median"}, "median"),
        ({"layer": -1}, "-1"),
    ],
)
def test_a_malformed_probe_is_refused(changes: dict[str, object], blamed: str) -> None:
    with pytest.raises(ValueError, match=blamed):
        dataclasses.replace(probe(), **changes)  # type: ignore[arg-type]
