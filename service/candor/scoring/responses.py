"""One scored response as the plain dicts of an answer; the types on the wire are in `schema.py`."""

from __future__ import annotations

from typing import Any

from candor.item import Item, Scored
from candor.scoring.compose import Composed


def response_answer(one: Scored, composed: Composed, item: Item) -> dict[str, Any]:
    """A `ResponseReward` as a dict. Only penalised probes appear: a monitor is not in
    `composed`."""
    return {
        "reward": composed.reward,
        "base_reward": one.score.base_reward,
        "penalty": composed.penalty,
        "probes": {
            name: {
                "score": one.score.readings[name].score,
                "bounded": bounded,
                "mean": one.score.readings[name].mean,
                "max": one.score.readings[name].max,
                "lambda": composed.lambdas[name],
            }
            for name, bounded in composed.bounded.items()
        },
        "num_tokens": item.num_tokens,
        "truncated": item.truncated,
    }


def token_answers(one: Scored, item: Item, text: str, composed: Composed) -> list[dict[str, Any]]:
    """The response's tokens with their span of `text` and each probe's logit."""
    ids = item.token_ids[item.response_start : item.response_end]
    columns = {name: one.score.readings[name].token_logits or () for name in composed.bounded}
    return [
        {
            "id": token_id,
            "text": text[start:end],
            "start": start,
            "end": end,
            "probes": {name: column[number] for name, column in columns.items()},
        }
        for number, (token_id, (start, end)) in enumerate(zip(ids, item.offsets, strict=True))
    ]
