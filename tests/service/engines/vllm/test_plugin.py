"""The parts of the vLLM engine that need no vLLM: settings, pipeline stages, the order of rows."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from candor.engines.vllm import engine as vllm_engine
from candor.engines.vllm.engine import rows_by_position
from candor.engines.vllm.plugin import FAMILIES, architecture, handed_out
from candor.flags import UsageError
from candor.models.checkpoint import ModelRefused
from candor.models.load import load_reward_model
from candor.settings import Settings, parse_vllm_args
from tests.architectures import LONGROPE
from tests.tiny import save_tiny, tiny_gemma2, tiny_llama, tiny_tokenizer


@pytest.mark.parametrize("cuts", [(0, 6), (0, 3, 6), (0, 1, 2, 6), (0, 1, 2, 3, 4, 5, 6)])
def test_every_layer_is_handed_out_by_one_stage(cuts: tuple[int, ...]) -> None:
    """The last, the final norm's output, by none: it is no residual stream."""
    stages = list(pairwise(cuts))
    by_stage = [handed_out(range(7), first, last, top=6) for first, last in stages]
    assert [layer for layers in by_stage for layer in layers] == [0, 1, 2, 3, 4, 5]
    assert handed_out([6, 2, 2], 0, 6, top=6) == (2,)


def test_rows_come_in_any_order_and_twice_but_never_too_few() -> None:
    rows = torch.tensor([[7.0, 0.7, 7.5], [6.0, 0.6, 6.5], [7.0, 0.7, 7.5]])
    assert rows_by_position(rows, 6, 8, 2).tolist() == rows[[1, 0], 1:].tolist()
    with pytest.raises(RuntimeError, match="no reading for 1 response tokens"):
        rows_by_position(rows[:1], 6, 8, 2)


def test_only_the_trunk_s_weights_stay_in_their_files(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "rm", tiny_llama(), tiny_tokenizer())
    whole_model: Any = load_reward_model(str(folder), device="cpu")
    shapes: Any = load_reward_model(str(folder), device="cpu", trunk=False)
    for name in ("id", "weights_sha256", "template_sha256", "max_length", "dtype", "num_layers"):
        assert getattr(shapes, name) == getattr(whole_model, name)
    assert torch.equal(shapes.model.score.weight, whole_model.model.score.weight)
    assert {p.device.type for p in shapes.model.model.parameters()} == {"meta"}


def test_a_family_that_was_not_compared_is_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "rm", tiny_gemma2(), tiny_tokenizer())
    model = load_reward_model(str(folder), device="cpu", trunk=False)
    with pytest.raises(ModelRefused, match="a gemma2: serve it with --engine packed"):
        vllm_engine.start(model, [])
    assert architecture("llama") == "CandorLlamaRewardModel"
    assert "gemma2" not in FAMILIES


def test_without_vllm_the_message_says_what_to_install(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "rm", tiny_llama(), tiny_tokenizer())
    model = load_reward_model(str(folder), device="cpu", trunk=False)
    with pytest.raises(ModelRefused, match=r"candor-rewards\[server,vllm\]"):
        vllm_engine.start(model, [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tensor_parallel_size": 2}, "--tensor-parallel-size 2: needs --engine vllm"),
        ({"pipeline_parallel_size": 2}, "--pipeline-parallel-size 2: needs --engine vllm"),
        ({"engine": "vllm", "tensor_parallel_size": 0}, "must be at least 1"),
        ({"vllm_args": {"seed": 1}}, "--vllm-arg seed: needs --engine vllm"),
        ({"engine": "vllm", "vllm_args": {"runner": "x"}}, "Candor sets it itself"),
        ({"engine": "vllm", "device": "cuda:1"}, "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_settings_that_cannot_be_right(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings(model="rm", **options)
    assert Settings(model="rm", engine="vllm", tensor_parallel_size=2).tensor_parallel_size == 2


def test_arguments_are_json_or_texts() -> None:
    pairs = ["block-size=16", "enforce_eager=true", "quantization=fp8"]
    expected = {"block_size": 16, "enforce_eager": True, "quantization": "fp8"}
    assert parse_vllm_args(pairs) == expected
    for wrong, message in (["seed"], "NAME=VALUE"), (["seed=1", "seed=2"], "given twice"):
        with pytest.raises(UsageError, match=message):
            parse_vllm_args(wrong)


@pytest.mark.parametrize(
    "rope", [LONGROPE, {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}]
)
def test_frequencies_that_depend_on_the_longest_text_are_refused(
    tmp_path: Path, rope: dict[str, Any]
) -> None:
    model = tiny_llama(rope_parameters=dict(rope))
    folder = save_tiny(tmp_path / "rm", model, tiny_tokenizer())
    loaded = load_reward_model(str(folder), device="cpu", trunk=False)
    with pytest.raises(ModelRefused, match="longest text of a batch"):
        vllm_engine.start(loaded, [])
