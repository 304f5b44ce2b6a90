"""What transformers chooses once per forward from its longest text divides a batch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from candor.forward.batch import padded
from candor.forward.company import Company
from tests.architectures import LONGROPE
from tests.tiny import tiny_llama

DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}


def longrope() -> PreTrainedModel:
    return tiny_llama(rope_parameters=dict(LONGROPE))


def dynamic() -> PreTrainedModel:
    return tiny_llama(rope_parameters=DYNAMIC, max_position_embeddings=64)


def run(model: PreTrainedModel, company: Company, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return company.run(padded([ids], [(0, 1)], torch.device("cpu")).inputs)[0]


def fresh(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    trunk: Any = copy.deepcopy(model).model
    with torch.inference_mode():
        return trunk(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]


def test_an_ordinary_models_texts_may_share_a_forward() -> None:
    for rope in (None, {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}):
        company = Company(tiny_llama(rope_parameters=rope))
        assert not company.is_divided
        assert not company.changes_model
        assert company.boundaries == []
        assert company.parts([5, 500, 5]) == [[0, 1, 2]]


def test_longrope_divides_by_side_of_the_boundary() -> None:
    company = Company(longrope())
    assert company.boundaries == [64]
    assert company.parts([5, 65, 64, 200, 1]) == [[0, 2, 4], [1, 3]]


def test_dynamic_frequencies_divide_by_length_beyond_the_window() -> None:
    company = Company(dynamic())
    assert company.boundaries == [64]
    assert company.parts([5, 65, 64, 66, 65]) == [[0, 2], [1, 4], [3]]


@pytest.mark.parametrize(("rule", "parts"), [("equal", [[0, 2], [1]]), ("none", [[0], [1], [2]])])
def test_a_rule_divides_any_model(rule: Any, parts: list[list[int]]) -> None:
    company = Company(tiny_llama(), rule)
    assert company.is_divided
    assert company.parts([5, 6, 5]) == parts


@pytest.mark.parametrize("make", [longrope, dynamic])
def test_a_forward_does_not_depend_on_the_ones_before_it(make: Any) -> None:
    model = make()
    new = copy.deepcopy(model)
    company = Company(model)
    for length in (100, 70, 64, 65, 20, 63, 100, 64):
        ids = [(7 * place) % 300 + 2 for place in range(length)]
        assert torch.equal(run(model, company, ids), fresh(new, ids)), length


def test_control_without_a_reset_a_forward_depends_on_the_ones_before_it() -> None:
    model = dynamic()
    ids = [(7 * place) % 300 + 2 for place in range(70)]
    expected = fresh(model, ids)
    trunk: Any = model.model
    with torch.inference_mode():
        trunk(input_ids=torch.tensor([ids + ids]), use_cache=False)
        after = trunk(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]
    assert (after - expected).abs().max() > 0.01
