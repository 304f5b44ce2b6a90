"""The reward function that TRL calls: the client's TRL adapter, with the penalty of the step.

A row that cannot be scored is None, which TRL leaves out of its group. Every other failure ends the
run (`candor.client.rows`): a step on nothing but None would be a step on nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from candor.client.rows import Context, RewardServer, close
from candor.client.trl import LogMetric, log_outcomes, rewards_of, rows_of
from candor.jobs.rl.labels.options import OnScored
from candor.jobs.rl.strength import Schedule

RewardFunction = Callable[..., list[float | None]]


@contextmanager
def scheduled_reward_function(
    server: RewardServer, schedule: Schedule, on_scored: OnScored | None = None
) -> Iterator[RewardFunction]:
    """The value of TRL's `reward_funcs`. It logs the metrics of `candor.client.trl`.

    Args:
        on_scored: called with each step's responses and their scores.

    The whole run has one event loop, because a loop's clients remember which weights answered
    first.

    Raises (when called):
        ClientError: the server cannot be asked, or has other weights now.
    """
    with asyncio.Runner() as runner:

        def candor(
            prompts: Sequence[Context],
            completions: Sequence[Context],
            *,
            trainer_state: Any,
            log_metric: LogMetric,
            tools: Sequence[Any] | None = None,
            **_columns: Any,
        ) -> list[float | None]:
            now = replace(server, penalties=schedule.at(trainer_state.global_step))
            outcomes = runner.run(now.rewards(rows_of(prompts, completions, tools)))
            log_outcomes(outcomes, log_metric)
            if on_scored is not None:
                on_scored(trainer_state.global_step, prompts, completions, outcomes)
            return rewards_of(outcomes)

        try:
            yield candor
        finally:
            runner.run(close())
