"""The client as verl loads and calls it."""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from tests.client.asking import run


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
