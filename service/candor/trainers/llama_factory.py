"""LLaMA-Factory's `POST /v1/score/evaluation`.

Read from src/llamafactory/train/ppo/ppo_utils.py `get_rewards_from_server` and
src/llamafactory/api/chat.py at ff6d4d12. The trainer sends whole conversations and reads `scores`.
It has no timeout and no retry, and it does not check the status: it believes any body with
`scores`, so no error's body holds that field.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from candor.trainers.contract import Contract, ContractAnswer, Flat, ScoreCall, Texts
from candor.trainers.fields import Body, Model, Refused
from candor.trainers.openrlhf import QUERY


class LlamaFactoryBody(Body):
    messages: Annotated[Texts, Field(min_length=1)] = Field(
        description="Whole conversations, with the chat template applied and special tokens."
    )
    model: Model = None
    max_length: Annotated[
        Any, Refused("a response is never cut; --trainer-truncation left cuts the oldest context")
    ] = None


def read(body: LlamaFactoryBody) -> ScoreCall:
    return ScoreCall([Flat(text) for text in body.messages])


def write(_: Body, answer: ContractAnswer) -> dict[str, Any]:
    return {
        "id": f"scoreval-{answer.request_id}",
        "object": "score.evaluation",
        "model": answer.model,
        "scores": answer.rewards,
    }


CONTRACT = Contract(
    client="LLaMA-Factory",
    body=LlamaFactoryBody,
    needs=frozenset({"messages"}),
    read=read,
    write=write,
    example={"model": "model", "messages": [QUERY]},
    answer={
        "id": "scoreval-9f8e7d6c5b4a3928",
        "object": "score.evaluation",
        "model": "reward-model",
        "scores": [1.5],
    },
)
