"""The wire formats of the servers: how texts become a request, and how an answer is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import orjson

from bench.load.workloads import BenchText


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """Base rewards in the order of the texts, and numbers of tokens: counted by the server, and
    computed by it (None where it does not say)."""

    rewards: list[float]
    num_tokens: int
    num_computed_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class WireFormat:
    """The wire format of one server.

    Attributes:
        path: the scoring route.
        body: from texts to the bytes of one request.
        read: from the bytes of a good answer to its content.
        ready: the route that answers 200 once the model is loaded.
    """

    path: str
    body: Callable[[Sequence[BenchText]], bytes]
    read: Callable[[bytes], ServerAnswer]
    ready: str


def _candor_body(texts: Sequence[BenchText]) -> bytes:
    items = [
        {"prompt": context, "templated": True, "responses": [text.response for text in members]}
        for context, members in groupby(texts, key=lambda text: text.context)
    ]
    return orjson.dumps({"items": items})


def _candor_read(payload: bytes) -> ServerAnswer:
    answer: dict[str, Any] = orjson.loads(payload)
    rewards = [
        response["base_reward"] for item in answer["results"] for response in item["responses"]
    ]
    usage = answer["usage"]
    return ServerAnswer(rewards, usage["num_tokens"], usage["num_computed_tokens"])


CANDOR = WireFormat("/v1/rewards", _candor_body, _candor_read, "/readyz")


def _vllm_body(texts: Sequence[BenchText]) -> bytes:
    # Without `use_activation` vLLM answers the sigmoid of the logit.
    whole = [text.context + text.response for text in texts]
    return orjson.dumps({"model": "rm", "input": whole, "use_activation": False})


def _vllm_read(payload: bytes) -> ServerAnswer:
    answer: dict[str, Any] = orjson.loads(payload)
    in_order = sorted(answer["data"], key=lambda entry: entry["index"])
    return ServerAnswer([entry["probs"][0] for entry in in_order], answer["usage"]["prompt_tokens"])


VLLM = WireFormat("/classify", _vllm_body, _vllm_read, "/health")


def _padded_body(texts: Sequence[BenchText]) -> bytes:
    return orjson.dumps({"query": [text.context + text.response for text in texts]})


def _padded_read(payload: bytes) -> ServerAnswer:
    answer: dict[str, Any] = orjson.loads(payload)
    return ServerAnswer(answer["rewards"], sum(answer["extra_logs"]["num_tokens"]))


PADDED = WireFormat("/get_reward", _padded_body, _padded_read, "/openapi.json")
