"""Candor on Ray Serve: two replicas of a tiny model behind one URL, from the example's config file.

One Ray for the whole module, on loopback as far as Ray can be (its own daemons bind the machine's
address, and ask for a token). What `ray_proxy.py` does without Ray is in
tests/service/test_ray_proxy.py.
"""

from __future__ import annotations

import asyncio
import collections
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
import yaml

from client import AsyncRewardClient
from client.retry import Retry, error_of
from probes.identity import weights_sha256
from service import assemble
from service.app import create_app
from service.settings import Settings, SettingsError
from tests.process.test_serve import free_port
from tests.service.serving import BODY, running, save_probe, wait_for
from tests.tiny import save_tiny, tiny_llama, tiny_tokenizer

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="needs Ray: pip install 'candor-rewards[ray]'",
    ),
]

ROOT = Path(__file__).parents[2]
KEY = "k3y"
JSON = {"content-type": "application/json"}
SERVE = """
import sys, ray
from ray.serve.scripts import cli
ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=80_000_000,
         _temp_dir=sys.argv[2], _node_ip_address="127.0.0.1", namespace="serve")
cli(["run", sys.argv[1]])
"""
"""`serve run CONFIG` on a Ray as small as it gets."""

READY = re.compile(r"ServeReplica:candor:Candor pid=(\d+)\).*\"event\": \"ready\"")


def config_of(folder: Path, port: int) -> dict[str, Any]:
    """The example's config with a tiny model, two replicas and one item a forward, so that what
    was sent stays in flight for a while."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "examples/ray/serve.yaml").read_text())
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    [application] = config["applications"]
    application["args"] |= {
        "model": str(folder / "model"),
        "probes": [str(folder / "sycophancy")],
        "api_key_file": str(folder / "key"),
        "max_batch_tokens": 1,
        "workers": 1,
    }
    [candor] = application["deployments"]
    del candor["autoscaling_config"]
    candor |= {"num_replicas": 2, "ray_actor_options": {"num_cpus": 0.25}}
    return config


class Cluster:
    """A running `serve run`."""

    def __init__(self, folder: Path, temp: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "log"
        (folder / "serve.yaml").write_text(json.dumps(config_of(folder, port)))
        environment = {
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": os.urandom(16).hex(),
            "RAY_DEDUP_LOGS": "0",
            "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "service.ray_proxy:middlewares",
            # A busy machine is no dead proxy.
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(folder / "serve.yaml"), temp],
                cwd=ROOT,
                env=os.environ | environment,
                stdout=stream,
                stderr=stream,
            )

    def ready_pids(self) -> list[int]:
        """Replicas that have said that they are ready, in that order."""
        assert self.process.poll() is None, self.log.read_text()
        return [int(pid) for pid in READY.findall(self.log.read_text())]

    def stop(self) -> list[psutil.Process]:
        """As Ctrl-C does; what of Ray was still there, and is not any more."""
        descendants = []
        if self.process.poll() is None:
            descendants = psutil.Process(self.process.pid).children(recursive=True)
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        _, left = psutil.wait_procs(descendants, 20)
        for process in left:
            process.kill()
        return left


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    save_tiny(folder / "model", tiny_llama(), tiny_tokenizer())
    save_probe(folder / "sycophancy", "sycophancy", weights_sha256(folder / "model"))
    (folder / "key").write_text(f"{KEY}\n")
    return folder


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[Cluster]:
    """Two replicas, both ready."""
    # Paths of sockets may have 107 bytes: too few for pytest's folders.
    with tempfile.TemporaryDirectory(prefix="ray-") as temp:
        cluster = Cluster(folder, temp)
        try:
            wait_for(lambda: len(cluster.ready_pids()) == 2, 300)
            yield cluster
        finally:
            left = cluster.stop()
    assert left == []


def one_process(folder: Path, bodies: list[dict[str, Any]]) -> list[list[float]]:
    """Rewards of each body from one server in this process, no Ray anywhere."""
    settings = Settings(
        model=str(folder / "model"),
        probes=(str(folder / "sycophancy"),),
        kappas={"sycophancy": 0.5},
    )
    served = assemble.serve_probes(settings)
    app = create_app(settings, lambda metrics: assemble.load(settings, served, None, metrics))
    with running(app) as url:
        answers = [httpx2.post(f"{url}/v1/rewards", json={"items": [body]}) for body in bodies]
    return [
        [one["reward"] for one in answer.json()["results"][0]["responses"]] for answer in answers
    ]


class Noting(httpx2.AsyncHTTPTransport):
    """The network, and what came of each try."""

    def __init__(self) -> None:
        super().__init__(limits=httpx2.Limits(max_connections=256))
        self.outcomes: collections.Counter[str] = collections.Counter()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        await response.aread()
        self.outcomes["answered" if response.is_success else error_of(response).type] += 1
        return response


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
        {"prompt": "The poem is", "responses": [f"group {n} {one} good" for one in range(200)]}
        for n in range(8)
    ] + [{"prompt": "The poem is", "responses": [f"single {n} good"]} for n in range(200)]
    victim, other = cluster.ready_pids()[:2]
    tries = Noting()
    rewards = asyncio.run(score_while_one_is_killed(cluster.url, bodies, victim, tries))

    # It was felt: requests died with the replica, and were told so that they came again.
    wait_for(lambda: not psutil.pid_exists(victim))
    assert tries.outcomes["replica_lost"] > 0
    # A replica that is alone for a while may also say that it has enough to do.
    assert tries.outcomes.keys() <= {"answered", "replica_lost", "overloaded"}
    assert tries.outcomes["answered"] == len(bodies)
    for got, expected in zip(rewards, one_process(folder, bodies), strict=True):
        assert got == pytest.approx(expected, abs=1e-4)
    wait_for(lambda: len(cluster.ready_pids()) == 3, 300)
    assert cluster.ready_pids()[2] not in (victim, other)


def test_the_edge_holds_behind_rays_proxy(cluster: Cluster) -> None:
    rewards = f"{cluster.url}/v1/rewards"
    key = {"authorization": f"Bearer {KEY}"}
    empty = {"items": [{"prompt": "The poem is", "responses": ["good", ""]}]}
    refused = error_of(httpx2.post(rewards, json=BODY, timeout=60))
    assert (refused.status, refused.type) == (401, "unauthorized")
    blamed = error_of(httpx2.post(rewards, json=empty, headers=key, timeout=60))
    assert (blamed.status, blamed.type) == (422, "empty_response")
    assert (blamed.item, blamed.response) == (0, 1)
    foreign = error_of(httpx2.get(rewards, headers=key | {"host": "elsewhere.example"}, timeout=60))
    assert (foreign.status, foreign.type) == (400, "invalid_request")
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
        ({"penalties": {"a": -1}}, "--penalty a=-1.0: must be a finite number"),
        ({"model": ""}, "--model: give a folder"),
    ],
)
def test_wrong_settings_are_named(args: dict[str, Any], words: str) -> None:
    from service.ray_app import app

    with pytest.raises(SettingsError) as refused:
        app({"model": "m"} | args)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`:DeprecationWarning")
def test_right_settings_are_taken_as_texts_too() -> None:
    from service.ray_app import app, settings_of

    assert settings_of({"model": "m", "workers": "2", "memo_mb": "0"}).workers == 2
    for args in ({"insecure_no_auth": "true"}, {"api_key_file": "/on/every/node"}):
        assert app({"model": "m"} | args) is not None
