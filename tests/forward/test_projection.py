"""Directions taken out of the activations: the geometry by hand, and R against a plain transformers
forward whose hidden states are edited by code of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from candor.forward.capture import read_hidden_states
from candor.forward.projection import plane, project_out
from tests.service.engines.material import FAMILIES
from tests.tiny import tiny_llama


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_hand(hidden: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """The nearest point at which all logits are 0, in float64."""
    h, w, b = (part.double().numpy() for part in (hidden, weights, biases))
    excess = (h @ w.T + b) @ np.linalg.inv(w @ w.T)
    return torch.from_numpy(h - excess @ w)


@pytest.mark.parametrize("num", [1, 2, 5])
def test_every_logit_becomes_zero_and_the_rest_stays(num: int) -> None:
    weights, biases, hidden = draw(num, 32), draw(num, seed=1), 3 * draw(4, 7, 32, seed=2)
    found = plane(weights, biases).nearest(hidden)
    assert torch.allclose(found @ weights.T + biases, torch.zeros(4, 7, num), atol=1e-4)
    assert torch.allclose(found.double(), by_hand(hidden, weights, biases), atol=1e-5)
    moved = (found - hidden).flatten(0, 1)
    assert torch.linalg.matrix_rank(moved, atol=1e-4) == num
    # A second projection finds nothing left to take out.
    assert torch.allclose(plane(weights, biases).nearest(found), found, atol=1e-5)


def test_one_direction_given_twice_is_taken_out_once() -> None:
    weight, bias, hidden = draw(1, 32), draw(1, seed=1), draw(6, 32, seed=2)
    twice = plane(torch.cat([weight, -2 * weight]), torch.cat([bias, -2 * bias]))
    assert twice.basis.shape == (32, 1)
    assert torch.allclose(twice.nearest(hidden), plane(weight, bias).nearest(hidden), atol=1e-5)


def test_what_has_no_plane_is_refused() -> None:
    weight = draw(1, 32)
    with pytest.raises(ValueError, match="the same, and their biases differ"):
        plane(torch.cat([weight, weight]), torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match="zeros"):
        plane(torch.zeros(1, 32), torch.zeros(1))


def test_sixteen_bits_stay_sixteen_bits_and_are_computed_in_float32() -> None:
    weights, biases, hidden = draw(1, 32), draw(1, seed=1), draw(6, 32, seed=2).bfloat16()
    found = plane(weights, biases).nearest(hidden)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, by_hand(hidden, weights, biases).float().bfloat16())


def rewards(model: Any, ids: Tensor) -> Tensor:
    with torch.inference_mode():
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        return model.score(hidden[:, -1])[:, 0]


def edited(model: Any, layer: int, change: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    """A hook that is not Candor's: `change` of the states at `layer`."""
    if layer < model.config.num_hidden_layers:
        handle = model.model.layers[layer].register_forward_pre_hook(
            lambda module, args: (change(args[0]), *args[1:])
        )
    else:
        handle = model.model.norm.register_forward_hook(lambda module, args, out: change(out))
    return handle.remove


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_of_every_family_is_as_a_plain_forward_with_a_hook(
    family: Callable[[], Any],
) -> None:
    model = family()
    ids = torch.randint(2, 320, (3, 24), generator=torch.Generator().manual_seed(0))
    plain = rewards(model, ids)
    weights, biases = draw(2, 32), draw(2, seed=1)
    for layer in range(model.config.num_hidden_layers + 1):
        off = edited(model, layer, lambda h: by_hand(h, weights, biases).to(h.dtype))
        expected = rewards(model, ids)
        off()
        take_off = project_out(model, {layer: plane(weights, biases)}, "cpu")
        found = rewards(model, ids)
        take_off()
        assert torch.allclose(found, expected, atol=1e-4)
        assert (found - plain).abs().max() > 1e-2  # the control: the projection matters
        assert torch.equal(rewards(model, ids), plain)


def test_at_the_last_layer_the_order_is_that_of_the_plain_null_space_projection() -> None:
    """There the point that is kept adds one number to every R."""
    model: Any = tiny_llama()
    ids = torch.randint(2, 320, (8, 24), generator=torch.Generator().manual_seed(0))
    weight, bias = draw(1, 32), torch.tensor([0.7])
    top = model.config.num_hidden_layers
    unit = (weight / weight.norm())[0]
    off = edited(model, top, lambda h: h - (h @ unit)[..., None] * unit)
    null_space = rewards(model, ids)
    off()
    project_out(model, {top: plane(weight, bias)}, "cpu")
    shift = rewards(model, ids) - null_space
    assert torch.allclose(shift, shift[:1].expand(8), atol=1e-5)
    expected = model.score.weight[0] @ unit * (-bias / weight.norm())
    assert shift[0].item() == pytest.approx(expected.item(), abs=1e-5)
    assert abs(expected.item()) > 1e-3  # the control


def test_readers_see_a_layer_before_its_own_projection_and_after_lower_ones() -> None:
    model: Any = tiny_llama()
    ids = torch.randint(2, 320, (1, 24), generator=torch.Generator().manual_seed(0))
    layers = range(model.config.num_hidden_layers + 1)

    def read() -> dict[int, Tensor]:
        seen: dict[int, Tensor] = {}
        readers = {
            layer: lambda h, layer=layer: seen.update({layer: h.clone()}) for layer in layers
        }
        with torch.inference_mode(), read_hidden_states(model, readers):
            model.model(input_ids=ids, use_cache=False)
        return seen

    before = read()
    project_out(model, {1: plane(draw(1, 32), draw(1, seed=1))}, "cpu")
    after = read()
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1], before[1])
    assert not torch.allclose(after[2], before[2], atol=1e-3)


def test_a_layer_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="layer 3 does not exist"):
        project_out(tiny_llama(), {3: plane(draw(1, 32), draw(1))}, "cpu")
