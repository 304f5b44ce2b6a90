"""Candor on Ray Serve for the tests: a Ray on loopback as far as it can be (its own daemons bind
the machine's address, and ask for a token), with a tiny model from the example's config file."""

from __future__ import annotations

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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
import yaml

from candor import assemble
from candor.client.retry import error_of
from candor.http.app import create_app
from candor.jobs.running.processes import free_port
from candor.settings import Settings
from tests.paths import ROOT
from tests.serve_process import save_served
from tests.service.serving import running

MARKS = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="needs Ray: pip install 'candor-rewards[ray]'",
    ),
]

KEY = "k3y"
SERVE = """
import sys, ray
from ray.serve.scripts import cli
ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=80_000_000,
         _temp_dir=sys.argv[2], _node_ip_address="127.0.0.1", namespace="serve")
cli(["run", sys.argv[1]])
"""
"""`serve run CONFIG` on a Ray as small as it gets."""

READY = re.compile(r"ServeReplica:candor:Candor pid=(\d+)\).*\"event\": \"ready\"")


def save_replica(folder: Path) -> Path:
    """What a replica reads: model, probe and key."""
    save_served(folder)
    (folder / "key").write_text(f"{KEY}\n")
    return folder


def config_of(folder: Path, port: int, deployment: dict[str, Any]) -> dict[str, Any]:
    """The example's config with a tiny model and one item a forward, so that what was sent stays
    in flight for a while; `deployment` in the place of what the example says of replicas."""
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
    candor |= {"ray_actor_options": {"num_cpus": 0.25}} | deployment
    return config


class Cluster:
    """A running `serve run`."""

    def __init__(self, folder: Path, temp: str, deployment: dict[str, Any]) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "log"
        (folder / "serve.yaml").write_text(json.dumps(config_of(folder, port, deployment)))
        environment = {
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": os.urandom(16).hex(),
            "RAY_DEDUP_LOGS": "0",
            "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "candor.ray.proxy:middlewares",
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
        psutil.wait_procs(descendants, 60)
        left = [process for process in descendants if _runs(process)]
        for process in left:
            process.kill()
        return left


def _runs(process: psutil.Process) -> bool:
    """Whether it has not ended. One that has ended, and that nobody has waited for, has its number
    still."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def running_cluster(folder: Path, deployment: dict[str, Any]) -> Iterator[Cluster]:
    """A cluster that is stopped at the end, and leaves no process behind."""
    # Paths of sockets may have 107 bytes: too few for pytest's folders.
    with tempfile.TemporaryDirectory(prefix="ray-") as temp:
        cluster = Cluster(folder, temp, deployment)
        try:
            yield cluster
        finally:
            left = cluster.stop()
    assert left == []


def rewards_of_one_process(folder: Path, bodies: list[dict[str, Any]]) -> list[list[float]]:
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
