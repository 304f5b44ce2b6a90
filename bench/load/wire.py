"""What each kind of server is asked and how its answer is read. The texts are the same for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import orjson

from bench.load.workloads import Text


@dataclass(frozen=True, slots=True)
class Answer:
    """The base rewards in the order of the texts, how many tokens the server counted, and how many
    it computed (None where it does not tell)."""

    rewards: list[float]
    num_tokens: int
    num_computed_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Wire:
    """One server's contract.

    Attributes:
        path: of the scoring route.
        body: texts to the bytes of one request.
        read: the bytes of a good answer.
        ready: the route that answers 200 once the model is loaded.
    """

    path: str
    body: Callable[[Sequence[Text]], bytes]
    read: Callable[[bytes], Answer]
    ready: str


def _candor_body(texts: Sequence[Text]) -> bytes:
    items = [
        {"prompt": context, "responses": [text.response for text in members]}
        for context, members in groupby(texts, key=lambda text: text.context)
    ]
    return orjson.dumps({"items": items})


def _candor_read(payload: bytes) -> Answer:
    answer: dict[str, Any] = orjson.loads(payload)
    rewards = [
        response["base_reward"] for item in answer["results"] for response in item["responses"]
    ]
    usage = answer["usage"]
    return Answer(rewards, usage["num_tokens"], usage["num_computed_tokens"])


CANDOR = Wire("/v1/rewards", _candor_body, _candor_read, "/readyz")


def _vllm_body(texts: Sequence[Text]) -> bytes:
    # Without `use_activation` vLLM answers the sigmoid of the logit.
    whole = [text.context + text.response for text in texts]
    return orjson.dumps({"model": "rm", "input": whole, "use_activation": False})


def _vllm_read(payload: bytes) -> Answer:
    answer: dict[str, Any] = orjson.loads(payload)
    in_order = sorted(answer["data"], key=lambda one: one["index"])
    return Answer([one["probs"][0] for one in in_order], answer["usage"]["prompt_tokens"])


VLLM = Wire("/classify", _vllm_body, _vllm_read, "/health")


def _padded_body(texts: Sequence[Text]) -> bytes:
    return orjson.dumps({"query": [text.context + text.response for text in texts]})


def _padded_read(payload: bytes) -> Answer:
    answer: dict[str, Any] = orjson.loads(payload)
    return Answer(answer["rewards"], sum(answer["extra_logs"]["num_tokens"]))


PADDED = Wire("/get_reward", _padded_body, _padded_read, "/openapi.json")
