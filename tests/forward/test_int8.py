"""8-bit linear layers: close to the float ones, and a token's result is its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from candor.engines.choose import build_engine
from candor.engines.padded import PaddedEngine
from candor.forward.head import decoder_blocks
from candor.forward.int8 import Int8Linear, quantise
from tests.service.engines.test_padded import make_items, make_probes
from tests.tiny import tiny_llama


def made(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[True, False], ids=["bias", "no bias"])
def layer(request: pytest.FixtureRequest) -> nn.Linear:
    linear = nn.Linear(64, 48, bias=request.param)
    with torch.no_grad():
        linear.weight.copy_(made(48, 64, seed=1))
        if linear.bias is not None:
            linear.bias.copy_(made(48, seed=2))
    return linear


@torch.no_grad()
def test_it_is_the_layer_to_about_a_hundredth(layer: nn.Linear) -> None:
    states = made(2, 20, 64) * torch.logspace(-3, 3, 20)[:, None]  # small tokens beside large ones
    expected, found = layer(states), Int8Linear(layer)(states)
    assert found.shape == expected.shape
    error = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
    assert 0 < error.max() < 0.03


@torch.no_grad()
def test_a_token_has_the_same_bits_alone_and_among_others(layer: nn.Linear) -> None:
    rounded, states = Int8Linear(layer), made(30, 64)
    states[7] *= 1000  # a scale of the whole batch would round all others to 0
    together = rounded(states)
    for number in range(len(states)):
        assert torch.equal(rounded(states[number : number + 1])[0], together[number])


@torch.no_grad()
def test_what_is_not_finite_stays_with_its_token(layer: nn.Linear) -> None:
    states = made(3, 64)
    states[1, 5] = torch.nan
    found = Int8Linear(layer)(states)
    assert found[1].isnan().all()
    assert found[[0, 2]].isfinite().all()


@torch.no_grad()
def test_the_dtype_is_kept(layer: nn.Linear) -> None:
    assert Int8Linear(layer)(made(2, 64).bfloat16()).dtype == torch.bfloat16


def test_all_linear_layers_of_the_blocks_and_none_else() -> None:
    model = tiny_llama()
    count = sum(isinstance(one, nn.Linear) for b in decoder_blocks(model) for one in b.modules())
    assert quantise(model) == count > 0
    left = [name for name, one in model.named_modules() if isinstance(one, nn.Linear)]
    assert left == ["score"]


@pytest.mark.parametrize("name", ["packed", "padded"])
def test_both_engines_compute_the_rounded_model(name: str) -> None:
    model, plain, rounded = tiny_llama(), tiny_llama(), tiny_llama()
    items, probes = make_items(), make_probes(model)
    engine = build_engine(name, model, probes, device="cpu")  # type: ignore[arg-type]
    quantise(model)
    quantise(rounded)
    scores = engine.score(items).scores
    expected = PaddedEngine(rounded, probes, device="cpu").score(items).scores
    unrounded = PaddedEngine(plain, probes, device="cpu").score(items).scores
    for one, same, other in zip(scores, expected, unrounded, strict=True):
        # Float differences in attention may tip a rounding: one step of an input.
        assert one.base_reward == pytest.approx(same.base_reward, abs=0.01)
        assert one.base_reward != other.base_reward
        assert one.readings.keys() == same.readings.keys()
        for probe, reading in one.readings.items():
            assert reading.score == pytest.approx(same.readings[probe].score, abs=0.05)
