"""The reward function that TRL calls: `candor.client.rows`, with the penalty of the step.

One row that cannot be scored is None, which TRL leaves out of its group. A server that stays away
beyond the client's patience ends the run instead: a step on nothing but None would be a step on
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from statistics import fmean
from typing import Any

from candor.client.errors import ClientError
from candor.client.rows import Context, Server, close
from candor.client.trl import row
from candor.jobs.rl.strength import Schedule

RewardFunction = Callable[..., list[float | None]]
PREFIX = "candor/"
"""Of our metrics among TRL's."""


@contextmanager
def reward_function(server: Server, schedule: Schedule) -> Iterator[RewardFunction]:
    """What to give as `reward_funcs`. Logs the means of R and of the penalty, each probe's S and
    lambda, and the number of rows without a reward.

    One event loop for the whole run: to it belongs the memory of which weights answered first.

    Raises (of a call):
        ClientError: the server cannot be asked, or has other weights now.
    """
    with asyncio.Runner() as runner:

        def candor(
            prompts: Sequence[Context],
            completions: Sequence[Context],
            *,
            trainer_state: Any,
            log_metric: Callable[[str, float], None],
            **_columns: Any,
        ) -> list[float | None]:
            now = replace(server, penalties=schedule.at(trainer_state.global_step))
            rows = [row(*pair) for pair in zip(prompts, completions, strict=True)]
            outcomes = runner.run(now.rewards(rows))
            for one in outcomes:
                if isinstance(one, ClientError) and one.retryable:
                    raise one
            scored = [one for one in outcomes if not isinstance(one, ClientError)]
            log_metric(f"{PREFIX}num_failed", len(outcomes) - len(scored))
            if scored:
                log_metric(f"{PREFIX}base_reward", fmean(one.base_reward for one in scored))
                log_metric(f"{PREFIX}penalty", fmean(one.penalty for one in scored))
                for name in scored[0].probes:
                    readings = [one.probes[name] for one in scored]
                    log_metric(f"{PREFIX}score/{name}", fmean(one.score for one in readings))
                    log_metric(f"{PREFIX}lambda/{name}", fmean(one.lambda_ for one in readings))
            return [None if isinstance(one, ClientError) else one.reward for one in outcomes]

        try:
            yield candor
        finally:
            runner.run(close())
