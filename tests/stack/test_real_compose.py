"""The compose files read by the real Docker Compose, which starts nothing here and needs no Docker
daemon: what `composed` makes of them is what compose makes of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

import pytest

from tests.stack.composed import FILES, KINDS, ROOT, stack

SETTINGS = {
    "MODELS": "/srv/models",
    "REWARD_MODEL": "org/model",
    "REWARD_KAPPA": "other=1.5",
    "REWARD_GPU": "3",
    "GENERATOR_GPU_SHARE": "0.4",
    "PIDS": "2048",
    "HF_HUB_OFFLINE": "0",
}


@pytest.fixture(scope="module")
def compose() -> list[str]:
    """Compose as Docker's plugin or as a command of its own."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if (found := shutil.which(command[0])) is not None:
            command[0] = found
            told = subprocess.run([*command, "version"], capture_output=True, timeout=60)
            if told.returncode == 0:
                return command
    pytest.skip("Docker Compose is not installed")


def config(
    compose: list[str], kind: str, settings: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    files = [part for name in FILES[kind] for part in ("--file", str(ROOT / name))]
    # The user's own .env is left out.
    command = [*compose, "--env-file=/dev/null", *files, "--profile=*", "config", "--format=json"]
    environment = {"HOME": os.environ.get("HOME", "/")} | settings
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("settings", [{}, SETTINGS], ids=["defaults", "settings"])
@pytest.mark.parametrize("kind", KINDS)
def test_compose_reads_the_files_as_the_tests_do(
    compose: list[str], kind: str, settings: dict[str, str]
) -> None:
    done = config(compose, kind, settings)
    assert (done.returncode, done.stderr) == (0, "")
    read: dict[str, Any] = json.loads(done.stdout)["services"]
    ours = stack(kind, settings)["services"]
    assert read.keys() == ours.keys()
    for name, service in ours.items():
        told = read[name]
        for key in ("image", "user", "restart", "entrypoint", "command", "pids_limit"):
            assert (told.get(key) or None) == service.get(key), (name, key)
        devices = told.get("deploy", {}).get("resources")
        assert devices == service.get("deploy", {}).get("resources"), name
        assert (told.get("environment") or {}) == service["environment"], name
        assert {*told["networks"]} == {*service["networks"]}, name
        secrets = [secret["source"] for secret in told.get("secrets", [])]
        assert secrets == service.get("secrets", []), name
        bound = [mount for mount in told["volumes"] if mount["type"] == "bind"]
        # Older versions leave a false value out.
        assert not any(mount["bind"].get("create_host_path") for mount in bound), name
        targets = {mount["target"] for mount in told["volumes"]}
        mounts = service["volumes"]
        assert targets == {
            mount.split(":")[1] if isinstance(mount, str) else mount["target"] for mount in mounts
        }


def test_a_wrong_value_is_refused(compose: list[str]) -> None:
    assert config(compose, "gpu", {"PIDS": "many"}).returncode != 0
