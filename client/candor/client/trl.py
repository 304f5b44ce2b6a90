"""TRL: a reward function for GRPOTrainer and RLOOTrainer that asks a Candor server.

    GRPOTrainer(model, reward_funcs=reward_function("http://127.0.0.1:8000"), ...)

A `partial` of a module-level `async def`: TRL awaits it beside the others (since 0.27) and its
async GRPO can pickle it. A row that fails is None, which TRL leaves out (since 1.6; before, it
counted as 0). While the server is away the step waits. Written against trl 1.16.0.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from candor.client.errors import ClientError
from candor.client.rows import Context, Row, Server

log = logging.getLogger(__name__)


async def candor_reward(
    prompts: Sequence[Context],
    completions: Sequence[Context],
    *,
    candor: Server,
    log_metric: Callable[[str, float], None] = lambda name, value: None,
    **_columns: Any,
) -> list[float | None]:
    """The penalised reward of each completion, or None. Logs the number of failed rows and the
    means of R, the penalty and each probe's S. Raises what `Server.rewards` raises."""
    outcomes = await candor.rewards([row(*pair) for pair in zip(prompts, completions, strict=True)])
    scored = [one for one in outcomes if not isinstance(one, ClientError)]
    failed = [one for one in outcomes if isinstance(one, ClientError)]
    if failed:
        log.warning("%d of %d rows have no reward: %s", len(failed), len(outcomes), failed[0])
    log_metric("candor/failed_rows", len(failed))
    if scored:
        log_metric("candor/base_reward", fmean(one.base_reward for one in scored))
        log_metric("candor/penalty", fmean(one.penalty for one in scored))
        for name in scored[0].probes:
            log_metric(f"candor/{name}", fmean(one.probes[name].score for one in scored))
    return [None if isinstance(one, ClientError) else one.reward for one in outcomes]


def row(prompt: Context, completion: Context) -> Row:
    """TRL's plain form (two texts) or conversational form (messages; the last is scored)."""
    if isinstance(prompt, str) and isinstance(completion, str):
        return prompt, completion
    return [*prompt, *completion[:-1]], completion[-1]


def reward_function(url: str | None = None, **settings: Any) -> Callable[..., Any]:
    """What to give as `reward_funcs`; `settings` are those of `candor.client.rows.Server`."""
    server = Server(url, **settings)
    return functools.update_wrapper(functools.partial(candor_reward, candor=server), candor_reward)
