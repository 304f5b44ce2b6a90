"""Builds the answer to a request, as plain dicts. `candor.client.schema` has the wire types.

Dicts encoded by orjson are several times faster than pydantic objects; tests check the dicts
against `RewardResponse`. orjson writes NaN as null, so every number must be finite: the batcher
refuses scores that are not finite, and `compose` refuses such rewards.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from candor.client.schema import Method
from candor.item import Item, Remark, RenderedText, Scored
from candor.scoring.compose import Composed
from candor.text.request import Reply


@dataclass(frozen=True, slots=True)
class ScoredResponse:
    """One response with its scores and its reward.

    Attributes:
        place: (group, response) in the request.
        text: the response, as it was sent.
        item: the tokenised context and response.
        scored: R and every S, monitors included.
        composed: the reward; holds penalised probes only.
    """

    place: tuple[int, int]
    text: Reply
    item: Item
    scored: Scored
    composed: Composed


def answer(responses: Sequence[ScoredResponse], model: dict[str, Any]) -> dict[str, Any]:
    """A `RewardResponse` as a dict.

    Args:
        responses: at least one response, in the order of the request.
        model: the answer's `model`. Its `methods` decide which fields a response has.
    """
    methods = frozenset(model["methods"].values())
    num_groups = responses[-1].place[0] + 1
    results: list[dict[str, Any]] = [
        {"index": index, "best": 0, "responses": []} for index in range(num_groups)
    ]
    for response in responses:
        results[response.place[0]]["responses"].append(_response(response, methods))
    for result in results:
        rewards = [response["reward"] for response in result["responses"]]
        result["best"] = rewards.index(max(rewards))
    sent = sum(response.item.num_tokens for response in responses)
    computed = sum(response.scored.num_computed_tokens for response in responses)
    return {
        "model": model,
        "results": results,
        "usage": {
            "num_tokens": sent,
            "num_computed_tokens": computed,
            "num_shared_tokens": max(0, sent - computed),
        },
        "timings": {
            "queue_s": max(response.scored.queue_s for response in responses),
            "forward_s": max(response.scored.forward_s for response in responses),
        },
        "warnings": warnings(responses),
    }


def warnings(responses: Sequence[ScoredResponse]) -> list[dict[str, Any]]:
    """Each remark once, at the first response that it is about."""
    first: dict[Remark, tuple[int, int]] = {}
    for response in responses:
        for remark in response.item.remarks:
            first.setdefault(remark, response.place)
    return [
        {"type": remark.type, "message": remark.message, "item": item, "response": number}
        for remark, (item, number) in first.items()
    ]


def _response(response: ScoredResponse, methods: Container[Method]) -> dict[str, Any]:
    """A `ResponseReward` as a dict. `composed` holds no monitors, so the dict holds none either."""
    composed, score = response.composed, response.scored.score
    reward: dict[str, Any] = {
        "reward": composed.reward,
        "base_reward": score.base_reward,
        "penalty": composed.penalty,
        "probes": {
            name: {
                "score": score.readings[name].score,
                "bounded": bounded,
                "mean": score.readings[name].mean,
                "max": score.readings[name].max,
                "lambda": composed.lambdas[name],
            }
            for name, bounded in composed.bounded.items()
        },
        "num_tokens": response.item.num_tokens,
        "truncated": response.item.truncated,
    }
    if "advantage" in methods:
        reward["advantage_penalty"] = composed.advantage_penalty
    if "screen" in methods:
        reward["screened"] = composed.screened
    if response.item.want_tokens:
        reward["tokens"] = _tokens(response)
    if response.item.rendered is not None:
        reward["text"] = _text(response.item, response.item.rendered)
    return reward


def _text(item: Item, rendered: RenderedText) -> dict[str, Any]:
    """A `ReadText` as a dict."""
    return {
        "text": rendered.text,
        "start": rendered.start,
        "end": rendered.end,
        "dropped": rendered.dropped,
        "token_ids": item.token_ids,
        "offsets": rendered.offsets,
        "num_response_tokens": 0 if item.is_empty else item.response_end - item.response_start,
    }


def _tokens(response: ScoredResponse) -> list[dict[str, Any]]:
    """The response's tokens, each with its text span and each probe's logit."""
    item, readings = response.item, response.scored.score.readings
    ids = item.token_ids[item.response_start : item.response_end]
    text = response.text if isinstance(response.text, str) else ""  # a message has no spans
    logits = {name: readings[name].token_logits or () for name in response.composed.bounded}
    return [
        {
            "id": token_id,
            "text": text[start:end],
            "start": start,
            "end": end,
            "probes": {name: values[number] for name, values in logits.items()},
        }
        for number, (token_id, (start, end)) in enumerate(zip(ids, item.offsets, strict=True))
    ]
