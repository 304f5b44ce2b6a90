"""The verl adapter, loaded and called as verl does, against a live server."""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import inspect
from collections.abc import Awaitable, Callable
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from candor.client import PermanentError, Unreachable
from candor.jobs.running.processes import free_port
from tests.paths import ROOT
from tests.trainers.asking import QUESTION, TOO_LONG, native, run


def loaded_by_verl(path: str, reward_kwargs: dict[str, Any]) -> Callable[..., Awaitable[Any]]:
    """`get_custom_reward_fn` (verl/trainer/ppo/reward.py) with `load_module`
    (verl/utils/import_utils.py) of verl 0.9.1: `pkg://` names are imported, files are executed
    under a name of their own, and `reward_kwargs` win over the call's."""
    if path.startswith("pkg://"):
        module = importlib.import_module(path.removeprefix("pkg://").replace("/", "."))
    else:
        spec = importlib.util.spec_from_file_location("custom_module_1", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    function = module.compute_score
    assert inspect.iscoroutinefunction(function)

    async def call(raw: Any, extra: dict[str, Any], **kwargs: Any) -> Any:
        return await raw(**{**kwargs, **extra})

    return functools.partial(call, function, reward_kwargs)


def batch_of_verl(
    function: Callable[..., Awaitable[Any]], replies: list[str], extra_info: dict[str, Any]
) -> list[dict[str, float]]:
    """A chunk as `RewardLoopWorker.compute_score_batch` scores it: one task a sample."""

    async def chunk() -> list[dict[str, float]]:
        tasks = [
            asyncio.ensure_future(
                function(
                    data_source="poems",
                    solution_str=text,
                    ground_truth=None,
                    extra_info=extra_info | {"num_turns": 2, "rollout_reward_scores": {}},
                )
            )
            for text in replies
        ]
        return await asyncio.gather(*tasks)

    scored: list[dict[str, float]] = run(chunk)
    return scored


VERL = ROOT / "client" / "candor" / "client" / "verl.py"


@pytest.mark.parametrize("path", ["pkg://candor.client.verl", str(VERL)])
def test_verl_scores_a_chunk_as_tasks_with_the_same_keys_each(url: str, path: str) -> None:
    replies = [f"Poem {number} is about the sea." for number in range(24)]
    prompt = np.array(QUESTION, dtype=object)  # what a parquet list of messages becomes
    kwargs = {"url": url, "penalties": MappingProxyType({"sycophancy": {"lambda": 2.0}})}
    scored = batch_of_verl(loaded_by_verl(path, kwargs), replies, {"prompt": prompt})
    expected = native(url, replies, {"sycophancy": {"lambda": 2.0}}, messages=QUESTION)
    assert [one["score"] for one in scored] == pytest.approx(
        [one.reward for one in expected], abs=1e-5
    )
    keys = {"score", "base_reward", "penalty", "probe/sycophancy", "probe/length"}
    assert [set(one) for one in scored] == [keys] * 24
    assert all(type(value) is float for one in scored for value in one.values())


def test_verl_samples_that_cannot_be_scored_raise(url: str) -> None:
    function = loaded_by_verl("pkg://candor.client.verl", {"url": url})
    with pytest.raises(PermanentError, match="too_long"):
        batch_of_verl(function, ["good", TOO_LONG], {"prompt": QUESTION})
    with pytest.raises(ValueError, match="extra_info has no 'prompt'"):
        batch_of_verl(function, ["good"], {"question": QUESTION})
    named = loaded_by_verl("pkg://candor.client.verl", {"url": url, "prompt_key": "question"})
    assert len(batch_of_verl(named, ["good"], {"question": QUESTION})) == 1
    away = {"url": f"http://127.0.0.1:{free_port()}", "patience_s": 0.0}
    with pytest.raises(Unreachable):
        batch_of_verl(loaded_by_verl("pkg://candor.client.verl", away), ["a"], {"prompt": QUESTION})
