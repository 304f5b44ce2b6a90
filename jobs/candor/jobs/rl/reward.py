"""The reward function that TRL calls: the client's TRL adapter, with the penalty of the step.

A prompt's last message of the assistant is the beginning of its responses: the server gets the
whole response, and the prompt without it.

A row that cannot be scored is None, which TRL leaves out of its group. Every other failure ends the
run (`candor.client.rows`): a step on nothing but None would be a step on nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import numpy as np

from candor.client.errors import ClientError
from candor.client.rows import Context, Outcome, RewardServer, close
from candor.client.schema import ResponseReward
from candor.client.trl import LogMetric, log_outcomes, rewards_of, rows_of
from candor.jobs.generator.groups import split_opening
from candor.jobs.rl.labels.options import OnScored
from candor.jobs.rl.strength import Schedule

RewardFunction = Callable[..., list[float | None]]


@contextmanager
def scheduled_reward_function(
    server: RewardServer,
    schedule: Schedule,
    permuted: int | None = None,
    on_scored: OnScored | None = None,
) -> Iterator[RewardFunction]:
    """The value of TRL's `reward_funcs`. It logs the metrics of `candor.client.trl`.

    Args:
        permuted: seed of the null arm, in which penalties are permuted among the responses to a
            prompt (`permuted_rewards`). None: each response has its own penalty.
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
            rows = rows_of(*whole(prompts, completions), tools)
            outcomes = runner.run(now.rewards(rows))
            log_outcomes(outcomes, log_metric)
            if on_scored is not None:
                on_scored(trainer_state.global_step, *whole(prompts, completions), outcomes)
            if permuted is None:
                return rewards_of(outcomes)
            keys = [row_key(prompt) for prompt in prompts]
            return permuted_rewards(outcomes, keys, (permuted, trainer_state.global_step))

        try:
            yield candor
        finally:
            runner.run(close())


def whole(
    prompts: Sequence[Context], completions: Sequence[Context]
) -> tuple[list[Context], list[Context]]:
    """Prompts without the assistant's last words, and completions that begin with them."""
    contexts, responses = [], []
    for prompt, completion in zip(prompts, completions, strict=True):
        context: Any = prompt
        response: Any = completion
        if isinstance(prompt, list | tuple):
            context, opening = split_opening(prompt)
            if opening:
                first = {**response[0], "content": opening + response[0]["content"]}
                response = [first, *response[1:]]
        contexts.append(context)
        responses.append(response)
    return contexts, responses


def permuted_rewards(
    outcomes: Sequence[Outcome], keys: Sequence[str], seed: tuple[int, ...]
) -> list[float | None]:
    """R minus the penalty of a random other response to the same prompt, or by chance its own.

    The penalties of a prompt are shuffled among its scored responses, so that their mean and spread
    are those of the real arm, and no response is penalised for what it says.

    Args:
        keys: the prompt of each outcome.
        seed: decides the permutation together with the place of the prompt in the batch.
    """
    found: list[float | None] = [None] * len(outcomes)
    rng = np.random.default_rng(seed)
    for key in dict.fromkeys(keys):
        places = [
            place
            for place, outcome in enumerate(outcomes)
            if keys[place] == key and not isinstance(outcome, ClientError)
        ]
        scored = [cast(ResponseReward, outcomes[place]) for place in places]
        for place, own, other in zip(places, scored, rng.permutation(len(scored)), strict=True):
            found[place] = own.base_reward - scored[int(other)].penalty
    return found


def row_key(prompt: Context) -> str:
    """A text that equal prompts share."""
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=str)
