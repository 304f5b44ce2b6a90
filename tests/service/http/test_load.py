"""A long queue over HTTP: who waits, who is refused, and what a refused caller is told."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import httpx2
import pytest

from candor.item import Item
from candor.scoring.rewarder import Rewarder
from candor.watch.metrics import Metrics
from tests.service.serving import load_tiny, running, tiny_app

SAMPLES_PER_S = 50.0
NUM_SAMPLES = 300


def load(metrics: Metrics) -> Rewarder:
    """A model that scores `SAMPLES_PER_S`, four to a batch."""

    def before(items: Sequence[Item]) -> None:
        time.sleep(len(items) / SAMPLES_PER_S)

    return load_tiny(metrics, before=before, max_batch_tokens=120)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(tiny_app(load)) as url:
        asyncio.run(rollout(url, 100))  # the server has learnt its rate
        yield url


async def rollout(
    url: str, num_samples: int, headers: dict[str, str] | None = None
) -> list[httpx2.Response]:
    """All samples at once, each in a request of its own, as OpenRLHF sends them."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx2.AsyncClient(limits=limits, timeout=120) as client:
        return await asyncio.gather(
            *(
                client.post(
                    f"{url}/get_reward",
                    json={"query": [f"The poem is {number:04}"], "prompts": ["The poem is"]},
                    headers=headers,
                )
                for number in range(num_samples)
            )
        )


def test_a_rollout_longer_than_any_patience_is_answered_whole(url: str) -> None:
    answers = asyncio.run(rollout(url, NUM_SAMPLES))
    assert Counter(answer.status_code for answer in answers) == {200: NUM_SAMPLES}


def test_callers_who_wait_less_than_the_queue_are_told_how_long_it_is(url: str) -> None:
    answers = asyncio.run(rollout(url, NUM_SAMPLES, {"x-request-timeout": "3"}))
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses.keys() == {200, 503}
    refused = [answer for answer in answers if answer.status_code == 503]
    kinds = Counter(answer.json()["error"]["type"] for answer in refused)
    # On a busy machine some are admitted, and then answered too late.
    assert kinds["overloaded"] > 0.4 * NUM_SAMPLES
    for answer in refused:
        if answer.json()["error"]["type"] == "overloaded":
            assert 1 <= int(answer.headers["retry-after"]) <= 10
            assert "X-Request-Timeout" in answer.json()["error"]["message"]


def test_a_longer_deadline_admits_the_same_rollout(url: str) -> None:
    answers = asyncio.run(rollout(url, NUM_SAMPLES, {"x-request-timeout": "60"}))
    assert {answer.status_code for answer in answers} == {200}
