"""`RewardServer`: a server's address, and one outcome per row."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from candor.client.errors import ClientError, PermanentError, RewardError
from candor.client.reward import API_KEY_VARIABLE, AsyncRewardClient
from candor.client.rows.connections import introduced_client
from candor.client.rows.environment import settings_of_environment
from candor.client.rows.forms import (
    ChatTurn,
    Context,
    Reply,
    Row,
    Unscorable,
    context_item,
    response_of,
)
from candor.client.rows.scoring import SERVER_BUG, is_surely_of_row, score_item
from candor.client.schema import ResponseReward
from candor.client.wire import EmptyResponse, Truncation

T = TypeVar("T")

Outcome = ResponseReward | ClientError
"""Of a row: its scored response, or the error of this row."""


@dataclass(frozen=True, slots=True)
class RewardServer:
    """A Candor server as adapters ask it. It can be pickled, as TRL's async GRPO needs.

    Args:
        url: address; None is the environment variable CANDOR_REWARD_URL.
        api_key: key; None is the environment variable CANDOR_API_KEY, where it is set. Trainers log
            their configuration, so prefer the environment.
        penalties: strengths by probe name in place of the served ones, such as
            {"sycophancy": {"kappa": 1.0}}.
        truncation: what happens to a row over the reward model's window: with `left` its oldest
            context is dropped, with `error` the row fails.
        timeout_s: longest wait for one answer, in seconds.
        patience_s: seconds that the server may be unreachable, loading or full before the call
            fails.
        empty_response: what happens to a row whose response has no token: with `score` the empty
            turn is scored, with `error` the row fails.
        templated: whether prompts that are texts are meant as they are, although they hold no turn
            of the reward model's chat template. Otherwise the server refuses such a prompt.
    """

    url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    penalties: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    truncation: Truncation = "error"
    timeout_s: float = 120.0
    patience_s: float = 300.0
    empty_response: EmptyResponse = "error"
    templated: bool = False

    @classmethod
    def of_environment(cls) -> RewardServer:
        """The server that environment variables describe, for trainers that only name a function.

        | variable | field |
        | --- | --- |
        | CANDOR_REWARD_URL | `url` |
        | CANDOR_API_KEY | `api_key` |
        | CANDOR_REWARD_PENALTIES | `penalties`, as JSON: {"sycophancy": {"kappa": 1.0}} |
        | CANDOR_REWARD_TRUNCATION | `truncation`: error or left |
        | CANDOR_REWARD_EMPTY_RESPONSE | `empty_response`: error or score |
        | CANDOR_REWARD_TEMPLATED | `templated`: 1 or 0 |
        | CANDOR_REWARD_TIMEOUT_S | `timeout_s` |
        | CANDOR_REWARD_PATIENCE_S | `patience_s` |

        Raises:
            ValueError: a variable has a wrong value; the message names it.
        """
        return cls(**settings_of_environment())

    async def rewards(self, rows: Sequence[Row]) -> list[Outcome]:
        """One outcome per row, in order: the scored response, or the error of this row.

        Raises:
            ClientError: a failure that is not about the rows: no answer within the patience, wrong
                key, wrong address, an answer that is not Candor's, unknown probe, other weights
                than at first; or, where no row has a reward, a 400, a 500, or a template that
                does not take the rows' tools.
            ValueError: no URL, or a URL that does not begin with http:// or https://.
        """
        client = await self._client()
        outcomes: dict[int, Outcome] = {}
        items: dict[str, dict[str, Any]] = {}
        texts: dict[str, dict[int, Reply]] = {}
        for number, (context, response) in enumerate(rows):
            try:
                item, text = context_item(context), response_of(response)
                if "prompt" in item and not isinstance(text, str):
                    raise Unscorable("a response with more than text needs messages as its prompt")
                if "prompt" in item and self.templated:
                    item["templated"] = True
            except Unscorable as error:
                outcomes[number] = error
                continue
            key = json.dumps(item)
            items[key] = item
            texts.setdefault(key, {})[number] = text
        found = await _all(self._item(client, items[key], [*texts[key].values()]) for key in items)
        for key, group in zip(items, found, strict=True):
            outcomes |= zip(texts[key], group, strict=True)
        if not any(isinstance(outcome, ResponseReward) for outcome in outcomes.values()):
            with_tools = any("tools" in item for item in items.values())
            for outcome in outcomes.values():
                if isinstance(outcome, RewardError) and not is_surely_of_row(outcome, with_tools):
                    raise outcome
        return [outcomes[number] for number in range(len(rows))]

    async def reward(self, context: Context, response: str | ChatTurn) -> ResponseReward:
        """The scored response of one row.

        Raises:
            ClientError, ValueError: the response could not be scored.
        """
        (outcome,) = await self.rewards([(context, response)])
        if isinstance(outcome, ClientError):
            raise outcome
        return outcome

    async def _item(
        self, client: AsyncRewardClient, item: Mapping[str, Any], texts: Sequence[Reply]
    ) -> list[Outcome]:
        """One outcome per response of one context, in order."""
        try:
            reply, failed = await score_item(
                client,
                item,
                texts,
                self.penalties,
                truncation=self.truncation,
                empty_response=self.empty_response,
            )
        except PermanentError as error:
            if error.status != SERVER_BUG:
                raise
            return [error] * len(texts)  # whether the rows or the server is to blame: `rewards`
        scored = iter(() if reply is None else reply.results[0].responses)
        return [failed[place] if place in failed else next(scored) for place in range(len(texts))]

    async def _client(self) -> AsyncRewardClient:
        """The running event loop's client of this server, made at the first call.

        Raises:
            ClientError: as `introduced_client`.
            ValueError: no URL, or one that is not an HTTP address.
        """
        url = self.url or os.environ.get("CANDOR_REWARD_URL")
        if not url:
            raise ValueError("no reward server: give its URL, or set CANDOR_REWARD_URL")
        api_key = self.api_key or os.environ.get(API_KEY_VARIABLE)
        return await introduced_client(
            url,
            api_key,
            timeout_s=self.timeout_s,
            patience_s=self.patience_s,
            penalties=self.penalties,
        )


async def _all(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results in order. At the first exception the rest is cancelled: nothing goes on asking
    for a call that has failed."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
