"""TRL: a reward function for GRPOTrainer and RLOOTrainer that asks a Candor server.

    GRPOTrainer(model, reward_funcs=reward_function("http://127.0.0.1:8000"), ...)

The function is a `partial` of a module-level `async def`: TRL awaits it beside other reward
functions (since 0.27), and its async GRPO can pickle it. The reward of a row that fails is None,
which TRL leaves out (since 1.6; before, None counted as 0). While the server is unreachable the
step waits. Written against trl 1.16.0.

Metrics of each call, means over the scored rows:

    candor/base_reward    R
    candor/penalty        sum of the penalties
    candor/score/NAME     S of the probe NAME
    candor/lambda/NAME    lambda of the probe NAME in this call
    candor/num_failed     number of rows without a reward
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from candor.client.errors import ClientError
from candor.client.rows import Context, Outcome, RewardServer, Row

__all__ = ["candor_reward", "log_outcomes", "reward_function", "rewards_of", "rows_of"]

log = logging.getLogger(__name__)

METRICS = "candor/"
"""What the names of the metrics begin with, among TRL's own."""

LogMetric = Callable[[str, float], None]
"""TRL's `log_metric`: takes the name and the value of a metric."""


async def candor_reward(
    prompts: Sequence[Context],
    completions: Sequence[Context],
    *,
    candor: RewardServer,
    log_metric: LogMetric = lambda name, value: None,
    **_columns: Any,
) -> list[float | None]:
    """The penalised reward of each completion, in order; None where there is none.

    Args:
        prompts, completions: of equal length, in TRL's plain or conversational form.
        log_metric: gets the metrics listed above.

    Raises:
        ClientError, ValueError: see `RewardServer.rewards`.
    """
    outcomes = await candor.rewards(rows_of(prompts, completions))
    log_outcomes(outcomes, log_metric)
    return rewards_of(outcomes)


def rows_of(prompts: Sequence[Context], completions: Sequence[Context]) -> list[Row]:
    """Context and response of each completion: two texts (TRL's plain form), or messages of which
    the last is the response (TRL's conversational form)."""
    return [
        (prompt, completion)
        if isinstance(prompt, str) and isinstance(completion, str)
        else ([*prompt, *completion[:-1]], completion[-1])
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def log_outcomes(outcomes: Sequence[Outcome], log_metric: LogMetric) -> None:
    """Give `log_metric` the metrics listed above. Without a scored row there are no means."""
    scored = [outcome for outcome in outcomes if not isinstance(outcome, ClientError)]
    failed = [outcome for outcome in outcomes if isinstance(outcome, ClientError)]
    if failed:
        log.warning("%d of %d rows have no reward: %s", len(failed), len(outcomes), failed[0])
    log_metric(f"{METRICS}num_failed", len(failed))
    if not scored:
        return
    log_metric(f"{METRICS}base_reward", fmean(outcome.base_reward for outcome in scored))
    log_metric(f"{METRICS}penalty", fmean(outcome.penalty for outcome in scored))
    for name in scored[0].probes:
        readings = [outcome.probes[name] for outcome in scored]
        log_metric(f"{METRICS}score/{name}", fmean(reading.score for reading in readings))
        log_metric(f"{METRICS}lambda/{name}", fmean(reading.lambda_ for reading in readings))


def rewards_of(outcomes: Sequence[Outcome]) -> list[float | None]:
    """The penalised reward of each outcome; None for an error."""
    return [None if isinstance(outcome, ClientError) else outcome.reward for outcome in outcomes]


def reward_function(url: str | None = None, **settings: Any) -> Callable[..., Any]:
    """The value of TRL's `reward_funcs`.

    Args:
        url, settings: those of `candor.client.rows.RewardServer`.
    """
    server = RewardServer(url, **settings)
    return functools.update_wrapper(functools.partial(candor_reward, candor=server), candor_reward)
