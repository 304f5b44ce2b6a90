"""Make a rewards request and check the reply: pure functions on the server's own wire types.

A reply is used only when its form, counts and sums are right, its numbers are finite, and it comes
from the same weights as the first reply. A trainer cannot see a wrong reward that looks right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import ValidationError

from candor.client.errors import InvalidArguments, InvalidReply, ModelChanged
from candor.client.schema import (
    ModelInfo,
    PenaltyOverride,
    ResponseReward,
    RewardItem,
    RewardRequest,
    RewardResponse,
)

Items = Sequence[RewardItem | Mapping[str, Any]]
Penalties = Mapping[str, PenaltyOverride | Mapping[str, Any]]
Include = Sequence[Literal["tokens", "text"]]
Truncation = Literal["error", "left"]
EmptyResponse = Literal["error", "score"]

AN_ITEM = '{"messages": [{"role": "user", "content": question}], "responses": [text, ...]}'
"""What messages show of the form of an item."""

ONE_OF = {
    "responses": '"responses": [text] for one response',
    "messages": '"messages": [{"role": "user", "content": text}] for one question',
}
"""What to write where a text was given in place of a list."""

STRENGTHS = ("lambda", "kappa", "closed_form")
"""The fields of a penalty."""


def reward_request(
    items: Items,
    penalties: Penalties | None = None,
    include: Include = (),
    truncation: Truncation = "error",
    empty_response: EmptyResponse = "error",
) -> RewardRequest:
    """The request, checked by the server's own wire types.

    Raises:
        InvalidArguments: an item without a context, an empty list, a negative lambda, ...
    """
    if isinstance(items, Mapping | RewardItem | str):
        raise InvalidArguments(
            "items: must be a list of items; for one item write rewards([item]), with item = "
            f"{AN_ITEM}"
        )
    try:
        return RewardRequest.model_validate(
            {
                "items": list(items),
                "penalties": dict(penalties or {}),
                "include": list(include),
                "truncation": truncation,
                "empty_response": empty_response,
            }
        )
    except ValidationError as error:
        raise InvalidArguments(_explained(error)) from None


def _explained(error: ValidationError) -> str:
    """The first of pydantic's errors as the field, what is wrong, and the fix where it is known."""
    first = error.errors(include_input=True, include_url=False)[0]
    names = [name for name in first["loc"] if name != "[key]"]
    place = "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in names)
    field, given = str(names[-1]) if names else "", first.get("input")
    fix, reason = "", first["msg"].removeprefix("Value error, ")
    if field in ONE_OF and isinstance(given, str):
        fix = f"; write {ONE_OF[field]}"
    elif first["type"] == "extra_forbidden":
        known = STRENGTHS if names[0] == "penalties" else tuple(RewardItem.model_fields)
        near = get_close_matches(field, known, n=1)
        reason = f"is unknown; the fields are {', '.join(known)}"
        fix = f". Did you mean {near[0]!r}?" if near else ""
    elif len(names) == 2 and names[0] == "penalties" and isinstance(given, int | float):
        fix = f'; write {{"{field}": {{"kappa": {given}}}}}, or "lambda" for reward units per logit'
    elif first["type"] == "missing" or (len(names) == 2 and names[0] == "items"):
        fix = f"; an item is {AN_ITEM}"
    return f"{place.removeprefix('.') or 'the request'}: {reason}{fix}"


def request_bytes(request: RewardRequest) -> bytes:
    """The request as JSON.

    Raises:
        ValueError: a text has a lone surrogate, which is not Unicode.
    """
    return request.model_dump_json(by_alias=True, exclude_none=True).encode()


def parse_reply(request: RewardRequest, body: bytes, first: ModelInfo | None) -> RewardResponse:
    """The reply to `request`, after every check.

    Fields that this version does not know are ignored: a newer server may say more.

    Args:
        body: JSON of the reply.
        first: model of this client's first reply; None for the first reply itself.

    Raises:
        InvalidReply: form, counts or sums are wrong, or a number is not finite.
        ModelChanged: the model's id or weights differ from `first`.
    """
    try:
        reply = RewardResponse.model_validate_json(body, extra="ignore")
    except ValidationError as error:
        raise InvalidReply(f"not a reward reply: {describe_first_error(error)}") from None
    if len(reply.results) != len(request.items):
        raise InvalidReply(f"{len(reply.results)} results for {len(request.items)} items")
    for index, (item, result) in enumerate(zip(request.items, reply.results, strict=True)):
        if result.index != index:
            raise InvalidReply(f"result {index} has index {result.index}")
        if len(result.responses) != len(item.responses):
            raise InvalidReply(
                f"item {index}: {len(result.responses)} rewards for {len(item.responses)} responses"
            )
        for number, scored in enumerate(result.responses):
            _check_numbers(scored, f"item {index}, response {number}")
        rewards = [scored.reward for scored in result.responses]
        if result.best != rewards.index(max(rewards)):
            raise InvalidReply(
                f"item {index}: best is {result.best}, which does not have the highest reward"
            )
    if first is not None and (reply.model.id, reply.model.revision) != (first.id, first.revision):
        raise ModelChanged(
            f"the server now answers with {_name(reply.model)}; this client's first reply came "
            f"from {_name(first)}. Rewards of two models must not be mixed: use a new client"
        )
    reply._request = request
    return reply


def describe_first_error(error: ValidationError, *parents: str) -> str:
    """The first of pydantic's errors, without the input, as `items.0.responses: what is wrong`.

    Args:
        parents: names that lead to the value that was validated.
    """
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(map(str, (*parents, *first["loc"]))) or "the body"
    return f"{place}: {first['msg']}"


def _check_numbers(scored: ResponseReward, where: str) -> None:
    numbers = [scored.reward, scored.base_reward, scored.penalty]
    for reading in scored.probes.values():
        numbers += [reading.score, reading.bounded, reading.mean, reading.max, reading.lambda_]
    for token in scored.tokens or ():
        numbers += token.probes.values()
    if not all(map(math.isfinite, numbers)):
        raise InvalidReply(f"{where}: a number is not finite")
    if scored.reward != scored.base_reward - scored.penalty:
        raise InvalidReply(f"{where}: the reward is not the base reward minus the penalty")


def _name(model: ModelInfo) -> str:
    return f"{model.id} ({model.revision[:12]})"
