"""Candor on Ray Serve: two replicas of a tiny model behind one URL, from the example's config file.

What `ray_proxy.py` does without Ray is in tests/service/ray/test_proxy.py, how many replicas there
are in test_ray_autoscaling.py.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from candor.client import AsyncRewardClient
from candor.client.retry import Retry, error_of
from candor.flags import UsageError
from tests.process.ray_cluster import (
    KEY,
    MARKS,
    Cluster,
    Noting,
    rewards_of_one_process,
    running_cluster,
    save_replica,
)
from tests.service.serving import BODY, wait_for

pytestmark = MARKS

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_replica(tmp_path_factory.mktemp("ray"))


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[Cluster]:
    """Two replicas, both ready."""
    with running_cluster(folder, {"num_replicas": 2}) as cluster:
        wait_for(lambda: len(cluster.ready_pids()) == 2, 300)
        yield cluster


async def score_while_one_is_killed(
    url: str, bodies: list[dict[str, Any]], victim: int, tries: Noting
) -> list[list[float]]:
    """Rewards of each body, all asked for at once; `victim` is killed at the first answer."""

    async def ask(body: dict[str, Any]) -> list[float]:
        reply = await client.rewards([body])
        return [one.reward for one in reply.results[0].responses]

    async with AsyncRewardClient(
        url, api_key=KEY, timeout_s=300, retry=Retry(budget_s=600), transport=tries
    ) as client:
        asked = [asyncio.create_task(ask(body)) for body in bodies]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        os.kill(victim, signal.SIGKILL)
        return await asyncio.gather(*asked)


def test_a_replica_killed_under_load_loses_nothing_and_is_replaced(
    cluster: Cluster, folder: Path
) -> None:
    # The groups keep both replicas busy, a second or so each; the single items wait behind them.
    bodies = [
        {
            "prompt": "The poem is",
            "templated": True,
            "responses": [f"group {n} {one} good" for one in range(200)],
        }
        for n in range(8)
    ] + [
        {"prompt": "The poem is", "templated": True, "responses": [f"single {n} good"]}
        for n in range(200)
    ]
    victim, other = cluster.ready_pids()[:2]
    tries = Noting()
    rewards = asyncio.run(score_while_one_is_killed(cluster.url, bodies, victim, tries))

    # It was felt: requests died with the replica, and were told so that they came again.
    wait_for(lambda: not psutil.pid_exists(victim))
    assert tries.outcomes["replica_lost"] > 0
    # A replica that is alone for a while may also say that it has enough to do.
    assert tries.outcomes.keys() <= {"answered", "replica_lost", "overloaded"}
    assert tries.outcomes["answered"] == len(bodies)
    for got, expected in zip(rewards, rewards_of_one_process(folder, bodies), strict=True):
        assert got == pytest.approx(expected, abs=1e-4)
    wait_for(lambda: len(cluster.ready_pids()) == 3, 300)
    assert cluster.ready_pids()[2] not in (victim, other)


def test_the_edge_holds_behind_rays_proxy(cluster: Cluster) -> None:
    rewards = f"{cluster.url}/v1/rewards"
    key = {"authorization": f"Bearer {KEY}"}
    empty = {"items": [{"prompt": "The poem is", "templated": True, "responses": ["good", ""]}]}
    refused = error_of(httpx2.post(rewards, json=BODY, timeout=60))
    assert (refused.status, refused.type) == (401, "unauthorized")
    blamed = error_of(httpx2.post(rewards, json=empty, headers=key, timeout=60))
    assert (blamed.status, blamed.type) == (422, "empty_response")
    assert (blamed.item, blamed.response) == (0, 1)
    named = httpx2.get(
        f"{cluster.url}/v1/models", headers=key | {"host": "elsewhere.example"}, timeout=60
    )
    assert named.status_code == 200  # a key protects from DNS rebinding, so any name will do
    # Too large by its own word: refused before the body is read.
    large = httpx2.post(rewards, content=bytes(65 * 2**20), headers=key | JSON, timeout=60)
    assert (large.status_code, error_of(large).type) == (413, "body_too_large")
    assert httpx2.post(rewards, json=BODY, headers=key, timeout=60).status_code == 200


def test_metrics_through_the_url_are_those_of_one_replica(cluster: Cluster) -> None:
    def metrics(**headers: str) -> httpx2.Response:
        return httpx2.get(f"{cluster.url}/metrics", headers=headers, timeout=60)

    assert metrics().status_code == 401
    started = re.compile(r"^process_start_time_seconds (.+)$", re.MULTILINE)
    seen: set[str] = set()

    def both() -> bool:
        seen.update(started.findall(metrics(authorization=f"Bearer {KEY}").text))
        return len(seen) == 2

    wait_for(both, 120)


# Importing Ray says this of Ray's own fields.
@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`:DeprecationWarning")
@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({}, "there is no API key"),
        ({"api_key": "k"}, "api_key: not a setting of a replica; use api_key_file"),
        ({"port": 1}, "port: not a setting of a replica; use http_options"),
        ({"penalty": 1}, "penalty: no such setting; there are api_key_file, combine"),
        ({"workers": "many"}, "workers: "),
        ({"penalties": {"a": -1}}, "--penalty a=-1: must be a finite number"),
        ({"model": ""}, "--model: give a folder"),
    ],
)
def test_wrong_settings_are_named(args: dict[str, Any], words: str) -> None:
    from candor.ray.app import app

    with pytest.raises(UsageError) as refused:
        app({"model": "m"} | args)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`:DeprecationWarning")
def test_right_settings_are_taken_as_texts_too() -> None:
    from candor.ray.app import app, settings_of

    assert settings_of({"model": "m", "workers": "2", "prefix_cache_mb": "0"}).workers == 2
    assert not settings_of({"model": "m"}).serves_inspector  # the proxy's address is not known
    assert settings_of({"model": "m", "inspector": "true"}).serves_inspector
    for args in ({"insecure_no_auth": "true"}, {"api_key_file": "/on/every/node"}):
        assert app({"model": "m"} | args) is not None
