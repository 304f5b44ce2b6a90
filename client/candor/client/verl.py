"""verl: a `compute_score` that asks a Candor server.

    reward.custom_reward_function.path=pkg://candor.client.verl
    +reward.custom_reward_function.reward_kwargs.url=http://127.0.0.1:8000

verl calls it once per sample, all samples of a chunk at the same time (the server batches them),
and without the prompt: put the prompt's messages into the data set's `extra_info` under `prompt`.
A sample that fails raises: None or NaN would spoil the batch, and 0 would be an invented reward.
Give a larger `patience_s` for a server that may be unreachable for longer. The reward managers
`naive` (the default) and `dapo` let the error end the step; `rate_limited` turns the error into
0.0: avoid it.
Written against verl 0.9.1 (`trainer/ppo/reward.py`, `reward_loop/reward_manager/naive.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from candor.client.rows import RewardServer


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any = None,
    extra_info: Mapping[str, Any] | None = None,
    *,
    url: str | None = None,
    prompt_key: str = "prompt",
    **settings: Any,
) -> dict[str, float]:
    """`score` is the penalised reward. The other keys are the same for every sample: `base_reward`
    (R), `penalty`, and `probe/NAME` for each probe: its S, which the adapter for TRL logs as
    `candor/score/NAME`. verl logs them at a validation, under `val-aux/`, and writes them beside
    the samples of training where `trainer.rollout_data_dir` is set. A server with
    `--method advantage` adds `advantage_penalty` (for verl's estimator `gdpo`), one with
    `--method screen` adds `screened`.

    Args:
        solution_str: the response, decoded without special tokens.
        extra_info: holds the prompt under `prompt_key`: messages, or templated text.
        url, settings: those of `candor.client.rows.RewardServer`, from `reward_kwargs`.

    Raises:
        ClientError: the sample could not be scored.
        ValueError: no prompt, or no URL.
    """
    prompt = (extra_info or {}).get(prompt_key)
    if prompt is None:
        raise ValueError(f"extra_info has no {prompt_key!r}: the reward model needs the prompt")
    ours = {name: value for name, value in settings.items() if name not in ROUTER}
    scored = await RewardServer(url, **ours).reward(prompt, solution_str)
    return {"score": scored.reward, **scored.parts} | {
        f"probe/{name}": reading.score for name, reading in scored.probes.items()
    }


ROUTER = frozenset({"reward_router_address", "reward_model_tokenizer"})
"""Settings that verl adds when it also runs a reward model of its own."""
