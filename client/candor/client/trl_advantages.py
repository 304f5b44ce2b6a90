"""TRL with the penalty on the advantage side, for a server with `--method advantage`.

    GRPOTrainer(model, reward_funcs=[*advantage_functions("http://127.0.0.1:8000")],
                args=GRPOConfig(multi_objective_aggregation="normalize_then_sum",
                                reward_weights=[1.0, -1.0]), train_dataset=rows)

The server's reward is R, and lambda * bound(S) is beside it. TRL normalises both within each group
and subtracts, in place of normalising their difference (arXiv 2604.01476). Written against trl
1.16.0.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any

from candor.client.errors import ClientError
from candor.client.rows import Context, Outcome, RewardServer, Row
from candor.client.rows.connections import forget_closed
from candor.client.schema import ResponseReward
from candor.client.trl import LogMetric, log_outcomes, rows_of

__all__ = ["advantage_functions"]


class _SharedOutcomes:
    """The outcomes of the latest rows, so that two reward functions of one step ask once."""

    def __init__(self, server: RewardServer) -> None:
        self._server = server
        self._locks: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}
        self._rows: list[Row] | None = None
        self._outcomes: list[Outcome] = []

    async def of(self, rows: list[Row]) -> tuple[list[Outcome], bool]:
        """The outcomes, and whether this call asked for them."""
        forget_closed(self._locks)
        async with self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            if rows == self._rows:
                return self._outcomes, False
            self._outcomes = await self._server.rewards(rows)
            self._rows = rows
            return self._outcomes, True


async def _part_of_each(
    prompts: Sequence[Context],
    completions: Sequence[Context],
    *,
    shared: _SharedOutcomes,
    part: Callable[[ResponseReward], float],
    log_metric: LogMetric = lambda name, value: None,
    tools: Sequence[Any] | None = None,
    environments: Sequence[Any] | None = None,
    **_columns: Any,
) -> list[float | None]:
    """`part` of each completion's outcome; None for a row that cannot be scored."""
    outcomes, asked = await shared.of(rows_of(prompts, completions, tools, environments))
    if asked:
        log_outcomes(outcomes, log_metric)
    return [None if isinstance(outcome, ClientError) else part(outcome) for outcome in outcomes]


async def candor_base_reward(
    prompts: Sequence[Context],
    completions: Sequence[Context],
    *,
    shared: _SharedOutcomes,
    **given: Any,
) -> list[float | None]:
    """R of each completion (`advantage_functions`)."""
    return await _part_of_each(
        prompts, completions, shared=shared, part=lambda scored: scored.base_reward, **given
    )


async def candor_advantage_penalty(
    prompts: Sequence[Context],
    completions: Sequence[Context],
    *,
    shared: _SharedOutcomes,
    **given: Any,
) -> list[float | None]:
    """lambda * bound(S) of each completion (`advantage_functions`)."""
    return await _part_of_each(
        prompts, completions, shared=shared, part=_advantage_penalty, **given
    )


def _advantage_penalty(scored: ResponseReward) -> float:
    if scored.advantage_penalty is None:
        raise ValueError(
            "the Candor server answers no 'advantage_penalty', so there is nothing to subtract "
            "from the advantages: serve with --method advantage, or use reward_function"
        )
    if not any(reading.lambda_ > 0 for reading in scored.probes.values()):
        raise ValueError(
            "every lambda of the Candor server is 0, so 'advantage_penalty' is always 0: serve "
            "with --kappa NAME=1"
        )
    return scored.advantage_penalty


def advantage_functions(
    url: str | None = None, **settings: Any
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Two reward functions for a server with `--method advantage`: R, and lambda * bound(S). One
    request serves both.

    With `multi_objective_aggregation="normalize_then_sum"` and `reward_weights=[1.0, -w]` TRL
    normalises each within its group, and the advantage is normalised(R) - w * normalised(bound(S)),
    which TRL then normalises over the batch. So w weighs two numbers of standard deviation 1, and
    the server's lambda cancels out: it weighs several probes against each other only. Where one
    response of a group has a little of the trait and the others none, the division by the group's
    standard deviation makes it count like much of the trait.

    Args:
        url, settings: those of `candor.client.rows.RewardServer`.

    Raises (when called):
        ClientError: as `candor_reward`.
        ValueError: the server's method is another, or every lambda is 0.
    """
    shared = _SharedOutcomes(RewardServer(url, **settings))
    # TRL logs each by the name of the function inside of the partial.
    first, second = (
        functools.update_wrapper(functools.partial(function, shared=shared), function)
        for function in (candor_base_reward, candor_advantage_penalty)
    )
    return first, second
