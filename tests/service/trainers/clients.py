"""Each trainer's client, reimplemented: the request, the retries, and how it reads rewards from the
answer. Sources are in `bodies/*.json`.

A client takes a URL, a body and the seconds it sleeps between tries, and gives the rewards in the
order of its texts, or raises as the trainer would.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import requests
import torch

Body = dict[str, Any]
Client = Callable[[str, Body, float], list[float]]


def openrlhf_post(url: str, body: Body, sleep_s: float) -> Any:
    """OpenRLHF up to v0.9.0: 5 tries of 180 s with a fixed sleep. A bad status is an error."""
    for _ in range(5):
        try:
            response = requests.post(url, json=body, timeout=180)
            response.raise_for_status()
            answer = response.json()
            assert "rewards" in answer
            return answer
        except (requests.RequestException, AssertionError):
            time.sleep(sleep_s)
    raise RuntimeError("Request error for 5 times")


def openrlhf_asserting(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    """v0.4.0 to v0.8.2: the list becomes a tensor, which must hold floats."""
    rewards = torch.tensor(openrlhf_post(url, body, sleep_s)["rewards"])
    assert rewards.shape == (len(body["query"]),)
    rewards.std()
    return floats(rewards)


def openrlhf_unreadable(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    """v0.8.3 to v0.8.9: whole answers are joined as if their values were tensors."""
    answers = [openrlhf_post(url, body, sleep_s)]
    return floats(torch.cat([answer["rewards"] for answer in answers]))


def openrlhf_without_logs(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    """v0.8.10 and v0.8.11: rewards and scores become tensors, extra_logs do not."""
    answers = [openrlhf_post(url, body, sleep_s)]
    for key in answers[0].get("extra_logs", {}):
        torch.cat([answer["extra_logs"][key] for answer in answers])
    rewards = torch.cat([torch.tensor(answer["rewards"]) for answer in answers])
    torch.cat([torch.tensor(answer["scores"]) for answer in answers])
    return floats(rewards)


def openrlhf_joining(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    """v0.9.0: every value of every answer is joined, so no value may be a bare number."""
    answers = [openrlhf_post(url, body, sleep_s)]
    for key in answers[0].get("extra_logs", {}):
        joined = torch.cat([torch.tensor(answer["extra_logs"][key]) for answer in answers])
        assert joined.shape == (len(body["query"]),)
    torch.cat([torch.tensor(answer["scores"]) for answer in answers])
    return floats(torch.cat([torch.tensor(answer["rewards"]) for answer in answers]))


async def openrlhf_fetch(url: str, body: Body, sleep_s: float, tries: list[str]) -> Any:
    """v0.9.1 to v0.11.0: every try has a session of its own, and any exception leads to another
    try. The answer must have JSON's content type. `tries` gets the URL once per try."""
    timeout = aiohttp.ClientTimeout(total=180)
    for _ in range(5):
        tries.append(url)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(url, json=body) as response,
            ):
                response.raise_for_status()
                return await response.json()
        except Exception:
            await asyncio.sleep(sleep_s)
    raise RuntimeError("Request error for 5 times, returning None")


def openrlhf_read(answer: Any) -> float:
    """Reads an answer as `execute` and the samples generator do."""
    reward = answer.get("rewards")
    scores = answer.get("scores")
    torch.tensor([reward if scores is None else scores]).mean()
    for value in (answer.get("extra_logs") or {}).values():
        assert torch.tensor([value]).is_floating_point()
    made = torch.tensor([reward])
    assert made.is_floating_point()
    return float(made.flatten())


def openrlhf_agent(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    return [openrlhf_read(asyncio.run(openrlhf_fetch(url, body, sleep_s, [])))]


def openrlhf_agent_empty(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    """With several URLs, the other URLs get empty lists and only have to answer."""
    answer = asyncio.run(openrlhf_fetch(url, body, sleep_s, []))
    assert all(values == [] for values in answer["extra_logs"].values())
    rewards: list[float] = answer["rewards"]
    return rewards


def align_anything(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    """3 tries of 100 s. A try with any status but 200 has failed. It sleeps after an exception,
    and not after a status."""
    for _ in range(3):
        try:
            response = requests.post(url, json=body, timeout=100)
            if response.status_code == 200:
                return floats(torch.tensor(response.json()["rewards"]))
        except Exception:
            time.sleep(sleep_s)
    raise RuntimeError("Failed to get rewards from API")


def llama_factory(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    """Any answer with `scores` is believed. An answer without it ends the run with a KeyError."""
    response = requests.post(url, json=body, headers={"Content-Type": "application/json"})
    return floats(torch.Tensor(json.loads(response.text)["scores"]))


async def verl_post(url: str, body: Body, sleep_s: float) -> Any:
    """16 tries, each in a new session. A 4xx is final; any other failure leads to another try."""
    last: Exception | None = None
    for _ in range(16):
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
                session.post(url, json=body) as response,
            ):
                response.raise_for_status()
                return await response.json()
        except aiohttp.ClientResponseError as error:
            if 400 <= error.status < 500:
                raise
            last = error
        except Exception as error:
            last = error
        await asyncio.sleep(sleep_s)
    assert last is not None
    raise last


def verl_vllm(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    return [asyncio.run(verl_post(url, body, sleep_s))["data"][-1]["probs"][-1]]


def verl_sglang(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    return [asyncio.run(verl_post(url, body, sleep_s))["data"][-1]["embedding"][-1]]


async def slime_post(url: str, body: Body, sleep_s: float) -> Any:
    """From v0.2.3 on: 10 tries after any failure; one session of 64 connections per process."""
    connector = aiohttp.TCPConnector(limit=64)
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        for attempt in range(10):
            try:
                async with session.post(url, json=body) as response:
                    response.raise_for_status()
                    return await response.json()
            except Exception:
                if attempt == 9:
                    raise
                await asyncio.sleep(sleep_s)


def slime(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    """The whole body is the reward, and the trainer subtracts a mean from it."""
    reward = asyncio.run(slime_post(url, body, sleep_s))
    return [reward - 0.0]


def miles(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    """slime's fork asks once."""

    async def ask() -> Any:
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
            response.raise_for_status()
            return await response.json()

    return [asyncio.run(ask()) - 0.0]


def slime_keyed(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    """With `--reward-key reward`."""
    return [asyncio.run(slime_post(url, body, sleep_s))["reward"] - 0.0]


def post(url: str, body: Body) -> Any:
    response = requests.post(url, json=body, timeout=60)
    response.raise_for_status()
    return response.json()


def in_order(values: list[tuple[int, float]]) -> list[float]:
    """Puts sorted results back in the order of their texts. Every index must be there once."""
    assert sorted(index for index, _ in values) == list(range(len(values)))
    assert [value for _, value in values] == sorted((value for _, value in values), reverse=True)
    return [value for _, value in sorted(values)]


def vllm_classify(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    data = post(url, body)["data"]
    assert [one["index"] for one in data] == list(range(len(data)))
    assert all(one["num_classes"] == len(one["probs"]) == 1 for one in data)
    return [one["probs"][0] for one in data]


def vllm_pooling(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    return [one["data"][0] for one in post(url, body)["data"]]


def vllm_score(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    return [one["score"] for one in post(url, body)["data"]]


def vllm_rerank(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    results = post(url, body)["results"]
    for one in results:
        if body.get("return_documents", True):
            assert one["document"]["text"] == body["documents"][one["index"]]
    return in_order([(one["index"], one["relevance_score"]) for one in results])


def openai_embeddings(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    """The library asks for base64 of float32 by default."""
    data = post(url, body)["data"]
    return [struct.unpack("<f", base64.b64decode(one["embedding"]))[0] for one in data]


def sglang_list(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    return [one["embedding"][0] for one in post(url, body)]


def sglang_one(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    return [post(url, body)["embedding"][0]]


def tei_predict(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    return [one["score"] for (one,) in post(url, body)]


def tei_predict_one(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    (one,) = post(url, body)
    return [one["score"]]


def tei_rerank(url: str, body: Body, sleep_s: float = 0) -> list[float]:
    results = post(url, body)
    assert all(one["text"] == body["texts"][one["index"]] for one in results)
    return in_order([(one["index"], one["score"]) for one in results])


def floats(values: torch.Tensor) -> list[float]:
    assert values.is_floating_point()
    return [float(value) for value in values]


CLIENTS: dict[str, Client] = {
    client.__name__: client
    for client in (
        openrlhf_asserting,
        openrlhf_unreadable,
        openrlhf_without_logs,
        openrlhf_joining,
        openrlhf_agent,
        openrlhf_agent_empty,
        align_anything,
        llama_factory,
        verl_vllm,
        verl_sglang,
        slime,
        slime_keyed,
        miles,
        vllm_classify,
        vllm_pooling,
        vllm_score,
        vllm_rerank,
        openai_embeddings,
        sglang_list,
        sglang_one,
        tei_predict,
        tei_predict_one,
        tei_rerank,
    )
}
