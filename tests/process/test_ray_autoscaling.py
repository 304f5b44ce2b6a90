"""Replicas come with load and go with silence, and nothing is lost on the way down either."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psutil
import pytest

from candor.client import AsyncRewardClient
from candor.client.retry import Retry
from tests.process.ray_cluster import (
    KEY,
    MARKS,
    Cluster,
    Noting,
    rewards_of_one_process,
    running_cluster,
    save_replica,
)
from tests.service.serving import wait_for

pytestmark = MARKS

QUICK = {
    "autoscaling_config": {
        "min_replicas": 1,
        "max_replicas": 2,
        "target_ongoing_requests": 4,
        "upscale_delay_s": 1,
        "downscale_delay_s": 5,
        "metrics_interval_s": 1,
        "look_back_period_s": 2,
    }
}
"""The example's autoscaling in seconds where it has minutes."""


def groups(number: int, count: int) -> list[dict[str, Any]]:
    """Groups of 100 fresh responses: half a second or so of one replica each."""
    return [
        {
            "prompt": "The poem is",
            "templated": True,
            "responses": [f"group {number} {one} {n} good" for n in range(100)],
        }
        for one in range(count)
    ]


async def until_one_more(client: AsyncRewardClient, cluster: Cluster) -> list[dict[str, Any]]:
    """Keeps 16 requests waiting until a second replica is there, and once more then; what was
    answered, with its rewards."""
    answered = []
    for number in range(100):
        both = len(cluster.ready_pids()) == 2
        bodies = groups(number, 16)
        replies = await asyncio.gather(*(client.rewards([body]) for body in bodies))
        for body, reply in zip(bodies, replies, strict=True):
            answered.append(body | {"got": [one.reward for one in reply.results[0].responses]})
        if both:
            return answered
    raise AssertionError("no second replica came")


async def until_one_fewer(client: AsyncRewardClient, pids: list[int]) -> int:
    """A single request after the other until one of the replicas is gone; how many."""
    for number in range(3_000):
        if not all(psutil.pid_exists(pid) for pid in pids):
            return number
        await client.rewards(
            [{"prompt": "The poem is", "templated": True, "responses": [f"single {number}"]}]
        )
        await asyncio.sleep(0.05)
    raise AssertionError("no replica left")


def test_a_second_replica_comes_with_load_and_leaves_with_it(tmp_path: Path) -> None:
    tries = Noting()

    async def both_ways(cluster: Cluster) -> tuple[list[dict[str, Any]], int]:
        async with AsyncRewardClient(
            cluster.url, api_key=KEY, timeout_s=300, retry=Retry(budget_s=600), transport=tries
        ) as client:
            answered = await until_one_more(client, cluster)
            return answered, await until_one_fewer(client, cluster.ready_pids())

    with running_cluster(save_replica(tmp_path), QUICK) as cluster:
        wait_for(lambda: len(cluster.ready_pids()) == 1, 300)
        answered, num_singles = asyncio.run(both_ways(cluster))
        assert sum(psutil.pid_exists(pid) for pid in cluster.ready_pids()) == 1

    # Each was answered at once: none was refused, and none went down with the one that left.
    assert tries.outcomes == {"answered": len(answered) + num_singles}
    bodies = [
        {key: body[key] for key in ("prompt", "templated", "responses")} for body in answered[-16:]
    ]
    expected = rewards_of_one_process(tmp_path, bodies)
    for body, rewards in zip(answered[-16:], expected, strict=True):
        assert body["got"] == pytest.approx(rewards, abs=1e-4)
