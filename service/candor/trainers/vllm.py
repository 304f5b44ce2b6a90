"""vLLM's routes for single texts: `/classify`, `/pooling`, and OpenAI's `/v1/embeddings`.

Read from vllm/entrypoints/pooling of vLLM 0.32.0. verl calls `/classify` (or `/v1/embeddings`, if
it started SGLang) in verl/experimental/reward_loop/reward_loop.py. Since v0.8 verl sends
`use_activation: false`. Before, it sent `activation: false`, which today's vLLM ignores, so that
vLLM answers the sigmoid.

Candor applies the sigmoid only if the body asks for it, by any of its names. vLLM applies it by
default. A sigmoid that nobody asked for does more harm than a missing one.
"""

from __future__ import annotations

import base64
import struct
from typing import Any, Literal

from pydantic import Field

from candor.trainers.contract import (
    Body,
    Contract,
    ContractAnswer,
    Flat,
    Inputs,
    MaybeTools,
    MaybeTurns,
    ScoreCall,
    apply_activation,
    pair_from_messages,
)
from candor.trainers.openrlhf import QUERY


class Truncating(Body):
    """vLLM's fields for cutting a text that is too long."""

    truncate_prompt_tokens: int | None = None
    truncation_side: str | None = None

    def truncation(self) -> Literal["left"] | None:
        """The truncation that the body asks for, or None.

        Raises:
            ValueError: the body asks to cut the response, or to cut to another length than the
                model's window.
        """
        if self.truncate_prompt_tokens is None:
            return None
        if self.truncate_prompt_tokens != -1:
            raise ValueError("'truncate_prompt_tokens' must be -1 (the model's window) or absent")
        if self.truncation_side == "right":
            raise ValueError(
                "'truncation_side': right would cut the response; send left or leave it out"
            )
        return "left"


class Pooled(Truncating):
    input: Inputs | None = None
    messages: MaybeTurns = Field(
        None, description="In place of `input`; the last message is scored."
    )
    tools: MaybeTools = Field(None, description="The tools of `messages`.")
    use_activation: bool | None = Field(None, description="true asks for the sigmoid.")
    activation: bool | None = Field(None, description="Old name of `use_activation`.")
    softmax: bool | None = Field(None, description="Oldest name of `use_activation`.")

    @property
    def wants_activation(self) -> bool | None:
        """The value under the newest name in the body."""
        named = (self.use_activation, self.activation, self.softmax)
        return next((value for value in named if value is not None), None)


class ClassifyBody(Pooled):
    pass


class PoolingBody(Pooled):
    task: str | None = Field(None, description="classify or absent: the server only gives rewards.")
    encoding_format: Literal["float", "base64"] = "float"


class EmbeddingsBody(Truncating):
    input: Inputs
    encoding_format: Literal["float", "base64"] = "float"


def read(body: Pooled) -> ScoreCall:
    if body.messages is not None:
        return ScoreCall([pair_from_messages(body.messages, body.tools)], body.truncation())
    if body.tools:
        raise ValueError("'tools' goes with 'messages'; an 'input' is templated already")
    return ScoreCall([Flat(text) for text in body.input or ()], body.truncation())


def read_pooling(body: PoolingBody) -> ScoreCall:
    if body.task not in (None, "classify"):
        raise ValueError("'task' must be classify or absent: this server gives one reward per text")
    return read(body)


def read_embeddings(body: EmbeddingsBody) -> ScoreCall:
    return ScoreCall([Flat(text) for text in body.input], body.truncation())


def openai_list(kind: str, data: list[dict[str, Any]], answer: ContractAnswer) -> dict[str, Any]:
    """`data` in OpenAI's list format."""
    usage = {
        "prompt_tokens": answer.num_tokens,
        "total_tokens": answer.num_tokens,
        "completion_tokens": 0,
    }
    return {
        "id": f"{kind}-{answer.request_id}",
        "object": "list",
        "created": answer.created,
        "model": answer.model,
        "data": data,
        "usage": usage,
    }


def write_classify(body: Pooled, answer: ContractAnswer) -> dict[str, Any]:
    data = [
        {"index": index, "label": None, "probs": [value], "num_classes": 1}
        for index, value in enumerate(apply_activation(answer.rewards, body.wants_activation))
    ]
    return openai_list("classify", data, answer)


def vector(value: float, encoding: Literal["float", "base64"]) -> list[float] | str:
    """One number as a vector of length 1. base64 encodes a little-endian float32."""
    if encoding == "float":
        return [value]
    return base64.b64encode(struct.pack("<f", value)).decode()


def write_pooling(body: PoolingBody, answer: ContractAnswer) -> dict[str, Any]:
    data = [
        {"index": index, "object": "pooling", "data": vector(value, body.encoding_format)}
        for index, value in enumerate(apply_activation(answer.rewards, body.wants_activation))
    ]
    return openai_list("pool", data, answer)


def write_embeddings(body: EmbeddingsBody, answer: ContractAnswer) -> dict[str, Any]:
    data = [
        {"index": index, "object": "embedding", "embedding": vector(value, body.encoding_format)}
        for index, value in enumerate(answer.rewards)
    ]
    return openai_list("embd", data, answer)


def example_answer(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"{kind}-9f8e7d6c5b4a3928",
        "object": "list",
        "created": 1764000000,
        "model": "reward-model",
        "data": [{"index": 0, **data}],
        "usage": {"prompt_tokens": 25, "total_tokens": 25, "completion_tokens": 0},
    }


CLASSIFY = Contract(
    client="vLLM and verl",
    body=ClassifyBody,
    needs=frozenset({"input"}),
    or_needs=frozenset({"messages"}),
    read=read,
    write=write_classify,
    example={"model": "reward-model", "input": QUERY, "use_activation": False},
    answer=example_answer("classify", {"label": None, "probs": [1.5], "num_classes": 1}),
)
POOLING = Contract(
    client="vLLM",
    body=PoolingBody,
    needs=frozenset({"input"}),
    or_needs=frozenset({"messages"}),
    read=read_pooling,
    write=write_pooling,
    example={"model": "reward-model", "input": [QUERY]},
    answer=example_answer("pool", {"object": "pooling", "data": [1.5]}),
)
EMBEDDINGS = Contract(
    client="OpenAI and verl",
    body=EmbeddingsBody,
    needs=frozenset({"input"}),
    read=read_embeddings,
    write=write_embeddings,
    example={"model": "reward-model", "input": QUERY},
    answer=example_answer("embd", {"object": "embedding", "embedding": [1.5]}),
)
