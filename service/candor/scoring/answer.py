"""Scores and rewards of a request as the plain dicts of its answer; `candor.client.schema` has the
types on the wire.

Dicts that orjson encodes are several times faster than pydantic objects; the tests hold them to
`RewardResponse`. orjson writes NaN as null, so nothing non-finite may get here: the batcher refuses
such scores and `compose` such rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from candor.item import Item, Scored
from candor.scoring.compose import Composed


@dataclass(frozen=True, slots=True)
class ScoredResponse:
    """One response on its way into the answer.

    Attributes:
        place: (group, response) in the request.
        text: the response.
        item: the response as it was tokenised.
        scored: R and every S, monitors included.
        composed: the reward; holds penalised probes only.
    """

    place: tuple[int, int]
    text: str
    item: Item
    scored: Scored
    composed: Composed


def answer(responses: Sequence[ScoredResponse], model: dict[str, Any]) -> dict[str, Any]:
    """A `RewardResponse` as a dict.

    Args:
        responses: in the order of the request, which has at least one.
        model: the answer's `model`.
    """
    num_groups = responses[-1].place[0] + 1
    results: list[dict[str, Any]] = [
        {"index": index, "best": 0, "responses": []} for index in range(num_groups)
    ]
    for response in responses:
        results[response.place[0]]["responses"].append(_response(response))
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
    }


def _response(response: ScoredResponse) -> dict[str, Any]:
    """A `ResponseReward` as a dict. A monitor is not in `composed`, so it is not in here."""
    composed, score = response.composed, response.scored.score
    told: dict[str, Any] = {
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
    if response.item.want_tokens:
        told["tokens"] = _tokens(response)
    return told


def _tokens(response: ScoredResponse) -> list[dict[str, Any]]:
    """The response's tokens, with their span of the text and each probe's logit."""
    item, readings = response.item, response.scored.score.readings
    ids = item.token_ids[item.response_start : item.response_end]
    logits = {name: readings[name].token_logits or () for name in response.composed.bounded}
    return [
        {
            "id": token_id,
            "text": response.text[start:end],
            "start": start,
            "end": end,
            "probes": {name: values[number] for name, values in logits.items()},
        }
        for number, (token_id, (start, end)) in enumerate(zip(ids, item.offsets, strict=True))
    ]
