"""TRL: reward functions for GRPOTrainer and RLOOTrainer that ask a Candor server.

    GRPOTrainer(model, reward_funcs=reward_function("http://127.0.0.1:8000"), train_dataset=rows)

or, where a configuration can only name a function, as for `trl grpo --reward_funcs` and axolotl:

    CANDOR_REWARD_URL=http://127.0.0.1:8000 trl grpo --reward_funcs candor.client.trl.reward

`reward_function` gives a `partial` of a module-level `async def`: TRL awaits it beside other reward
functions (since 0.27), and its async GRPO can pickle it. `reward` is an ordinary function, which
every version of TRL calls; `RewardServer.of_environment` lists the variables that it reads.

The reward of a row that cannot be scored is None, which TRL leaves out (since 1.6; before, None
counted as 0). Every other failure is raised and ends the run: without the server there is nothing
to train on. While the server is unreachable the step waits, for `patience_s`. Written against trl
1.16.0.

Metrics of each call, means over the scored rows:

    candor/base_reward    R
    candor/penalty        sum of the penalties
    candor/score/NAME     S of the probe NAME
    candor/lambda/NAME    lambda of the probe NAME in this call
    candor/num_failed     number of rows without a reward
    candor/screened       share of screened rows, from a server with --method screen
    candor/advantage_penalty  lambda * bound(S), from a server with --method advantage

For --method advantage, whose reward is R alone, use `candor.client.trl_advantages`.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import logging
import threading
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from candor.client.errors import ClientError
from candor.client.rows import Context, MessagesAndTools, Outcome, RewardServer, Row

__all__ = ["candor_reward", "log_outcomes", "reward", "reward_function", "rewards_of", "rows_of"]

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
    tools: Sequence[Any] | None = None,
    environments: Sequence[Any] | None = None,
    **_columns: Any,
) -> list[float | None]:
    """The penalised reward of each completion, in order; None for a row that cannot be scored.

    Args:
        prompts, completions: of equal length, in TRL's plain or conversational form.
        log_metric: gets the metrics listed above.
        tools: the data set's column of that name: per row a list of schemas or functions, or its
            JSON. The reward model's template reads them beside the messages.
        environments: the environment of each row, whose methods are tools too.

    Raises:
        ClientError, ValueError: see `RewardServer.rewards`.
    """
    outcomes = await candor.rewards(rows_of(prompts, completions, tools, environments))
    log_outcomes(outcomes, log_metric)
    return rewards_of(outcomes)


def reward(
    prompts: Sequence[Context], completions: Sequence[Context], **columns: Any
) -> list[float | None]:
    """`candor_reward` of the server that environment variables describe
    (`RewardServer.of_environment`), for configurations that can only name a function.

    Raises:
        ClientError, ValueError: see `RewardServer.rewards`.
    """
    server = RewardServer.of_environment()
    taken = ("log_metric", "tools", "environments")
    given = {name: columns[name] for name in taken if name in columns}
    work = candor_reward(prompts, completions, candor=server, **given)
    return asyncio.run_coroutine_threadsafe(work, _background_loop()).result()


@functools.cache
def _background_loop() -> asyncio.AbstractEventLoop:
    """One event loop in a thread of its own, so that `reward` works whether or not its caller runs
    in a loop, and keeps its connections from call to call."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="candor-reward", daemon=True).start()
    return loop


def rows_of(
    prompts: Sequence[Context],
    completions: Sequence[Context],
    tools: Sequence[Any] | None = None,
    environments: Sequence[Any] | None = None,
) -> list[Row]:
    """Context and response of each completion: two texts (TRL's plain form), or messages of which
    the last is the response (TRL's conversational form), with the row's tools. What has neither
    form is left as it is, and fails as a row.

    Raises:
        ValueError: there is not one prompt per completion, or one entry of `tools` or
            `environments`.
    """
    nothing = [None] * len(prompts)
    columns = (prompts, completions, tools or nothing, environments or nothing)
    return [_row(*row) for row in zip(*columns, strict=True)]


def _row(prompt: Any, completion: Any, tools: Any, environment: Any) -> Row:
    conversational = isinstance(prompt, list | tuple) and isinstance(completion, list | tuple)
    if conversational and completion:
        messages = [*prompt, *completion[:-1]]
        known = _tools(tools, environment)
        return (MessagesAndTools(messages, known) if known else messages), completion[-1]
    return prompt, completion


def _tools(tools: Any, environment: Any) -> Any:
    """The row's tools as objects, a function by the schema that TRL shows to the policy. What is
    no list is left as it is, and fails as a row."""
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except ValueError:
            return tools
    if tools is not None and not isinstance(tools, list | tuple):
        return tools
    found = [*(tools or ()), *_methods(environment)]
    return [_schema(tool) if callable(tool) else tool for tool in found]


def _methods(environment: Any) -> list[Any]:
    """The tools of an environment, in TRL's order: its public methods but `reset` and
    `get_reward`."""
    if environment is None:
        return []
    return [
        getattr(environment, name)
        for name, _ in inspect.getmembers(type(environment), predicate=inspect.isfunction)
        if name not in ("reset", "get_reward") and not name.startswith("_")
    ]


def _schema(function: Callable[..., Any]) -> dict[str, Any]:
    from transformers.utils.chat_template_utils import (
        get_json_schema,
    )  # TRL needs transformers, this package does not

    schema: dict[str, Any] = get_json_schema(function)
    return schema


def log_outcomes(outcomes: Sequence[Outcome], log_metric: LogMetric) -> None:
    """Give `log_metric` the metrics listed above. Without a scored row there are no means."""
    scored = [outcome for outcome in outcomes if not isinstance(outcome, ClientError)]
    failed = [outcome for outcome in outcomes if isinstance(outcome, ClientError)]
    if failed:
        log.warning("%d of %d rows have no reward: %s", len(failed), len(outcomes), failed[0])
    log_metric(f"{METRICS}num_failed", len(failed))
    if not scored:
        return
    for name in scored[0].parts:
        log_metric(f"{METRICS}{name}", fmean(outcome.parts[name] for outcome in scored))
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
