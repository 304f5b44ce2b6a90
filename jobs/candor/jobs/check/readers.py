"""How each trainer reads the rewards out of an answer, without the trainer.

The recorded bodies name their source. The tests hold each reader against the trainer's own code,
reimplemented with the trainer's own libraries.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any

Body = dict[str, Any]
Reader = Callable[[Any, Body], list[float]]


class Unreadable(Exception):
    """The trainer cannot use the answer; the message says why, and what to do."""


def openrlhf_list(answer: Any, body: Body) -> list[float]:
    return _floats(_field(answer, "rewards"))


def openrlhf_unreadable(answer: Any, body: Body) -> list[float]:
    raise Unreadable("these versions join JSON lists as tensors, with any server: upgrade OpenRLHF")


def openrlhf_without_logs(answer: Any, body: Body) -> list[float]:
    if answer.get("extra_logs"):
        raise Unreadable("these versions fail on extra_logs: candor serve --no-openrlhf-extra-logs")
    return openrlhf_scored(answer, body)


def openrlhf_scored(answer: Any, body: Body) -> list[float]:
    _floats(_field(answer, "scores"))
    for values in (answer.get("extra_logs") or {}).values():
        _floats(values)
    return openrlhf_list(answer, body)


def openrlhf_empty(answer: Any, body: Body) -> list[float]:
    return _floats(_field(answer, "rewards"))


def llama_factory(answer: Any, body: Body) -> list[float]:
    return _floats(_field(answer, "scores"))


def probs(answer: Any, body: Body) -> list[float]:
    return [_float(_field(one, "probs")[-1]) for one in _field(answer, "data")]


def embedding(answer: Any, body: Body) -> list[float]:
    return [_float(_field(one, "embedding")[-1]) for one in _field(answer, "data")]


def base64_embedding(answer: Any, body: Body) -> list[float]:
    """float32, little-endian, as OpenAI's library asks for."""
    texts = [_field(one, "embedding") for one in _field(answer, "data")]
    return [struct.unpack("<f", base64.b64decode(text))[0] for text in texts]


def number(answer: Any, body: Body) -> list[float]:
    return [_float(answer)]


def keyed(answer: Any, body: Body) -> list[float]:
    return [_float(_field(answer, "reward"))]


def pooled(answer: Any, body: Body) -> list[float]:
    return [_float(_field(one, "data")[0]) for one in _field(answer, "data")]


def pair_score(answer: Any, body: Body) -> list[float]:
    return [_float(_field(one, "score")) for one in _field(answer, "data")]


def ranked(answer: Any, body: Body) -> list[float]:
    found = [(one["index"], one["relevance_score"]) for one in _field(answer, "results")]
    return [_float(score) for _, score in sorted(found)]


def sglang(answer: Any, body: Body) -> list[float]:
    answers = answer if isinstance(answer, list) else [answer]
    return [_float(_field(one, "embedding")[0]) for one in answers]


def tei_batch(answer: Any, body: Body) -> list[float]:
    """A list per text for a batch; one list for one text."""
    return [_float(_field(one[0] if isinstance(one, list) else one, "score")) for one in answer]


def tei_ranked(answer: Any, body: Body) -> list[float]:
    return [_float(score) for _, score in sorted((one["index"], one["score"]) for one in answer)]


READERS: dict[str, Reader] = {
    "openrlhf_asserting": openrlhf_list,
    "openrlhf_unreadable": openrlhf_unreadable,
    "openrlhf_without_logs": openrlhf_without_logs,
    "openrlhf_joining": openrlhf_scored,
    "openrlhf_agent": openrlhf_scored,
    "openrlhf_agent_empty": openrlhf_empty,
    "align_anything": openrlhf_list,
    "llama_factory": llama_factory,
    "verl_vllm": probs,
    "verl_sglang": embedding,
    "slime": number,
    "slime_keyed": keyed,
    "miles": number,
    "vllm_classify": probs,
    "vllm_pooling": pooled,
    "vllm_score": pair_score,
    "vllm_rerank": ranked,
    "openai_embeddings": base64_embedding,
    "sglang_list": sglang,
    "sglang_one": sglang,
    "tei_predict": tei_batch,
    "tei_predict_one": tei_batch,
    "tei_rerank": tei_ranked,
}
"""By the `client` of a recorded body."""


def _field(answer: Any, name: str) -> Any:
    if not isinstance(answer, dict) or name not in answer:
        raise Unreadable(f"the answer has no field {name!r}")
    return answer[name]


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, float):
        raise Unreadable(f"a reward is {value!r}, and the trainer takes a number with a fraction")
    return value


def _floats(values: Any) -> list[float]:
    if not isinstance(values, list):
        raise Unreadable("the rewards are no list")
    return [_float(value) for value in values]
