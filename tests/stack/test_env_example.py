"""The variables of the compose files: `.env.example` lists them, and each does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cyclopts
import pytest
import yaml

from tests.stack.command_line import parse
from tests.stack.composed import KINDS, ROOT, stack, variables

EXAMPLE = ROOT / ".env.example"
JOBS = {"best-of-n", "rl", "bench"}
GPUS = {"reward": "0", "generator": "1", "rl": "1", "bench": "0"}
MIB = {"m": 1, "g": 1024}


def listed() -> dict[str, str]:
    """What the example would set if every line were in force."""
    return dict(re.findall(r"^#(\w+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))


def devices(services: dict[str, Any]) -> dict[str, str]:
    """The GPU that each service asks for, by service."""
    found = {}
    for name, service in services.items():
        if "deploy" in service:
            (device,) = service["deploy"]["resources"]["reservations"]["devices"]
            assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
            (found[name],) = device["device_ids"]
    return found


def mebibytes(size: str) -> int:
    return int(size[:-1]) * MIB[size[-1]]


def test_the_example_lists_every_variable_with_its_default_and_no_other() -> None:
    assert listed() == variables("gpu")
    assert variables("cpu") == variables("gpu")


def test_the_example_as_it_stands_sets_nothing() -> None:
    lines = EXAMPLE.read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []


@pytest.mark.parametrize("kind", KINDS)
def test_its_values_are_those_without_it(kind: str) -> None:
    assert stack(kind, listed()) == stack(kind)


@pytest.mark.parametrize("name", variables("gpu"))
def test_every_variable_changes_something(name: str) -> None:
    assert stack("gpu", {name: "7"}) != stack("gpu")
    assert stack("gpu", {name: ""}) == stack("gpu")


def test_no_key_or_token_is_a_variable_but_the_path_of_its_file() -> None:
    secret = [name for name in listed() if re.search("KEY|TOKEN|PASSWORD|SECRET", name)]
    assert len(secret) == len(stack("gpu")["secrets"])
    assert all(name.endswith("_FILE") for name in secret)
    moved = stack("gpu", {name: f"/elsewhere/{name}" for name in secret})["secrets"]
    assert {secret["file"] for secret in moved.values()} == {
        f"/elsewhere/{name}" for name in secret
    }


def validate(composed: object, folder: Path) -> int:
    path = folder / "compose.yml"
    path.write_text(yaml.safe_dump(composed))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    return subprocess.run([*command, path], capture_output=True, timeout=60).returncode


@pytest.mark.parametrize("kind", KINDS)
def test_the_expanded_stack_is_a_compose_file(kind: str, tmp_path: Path) -> None:
    composed = stack(kind, listed())
    assert validate(composed, tmp_path) == 0
    composed["services"]["reward"]["restart_policy"] = "never"
    assert validate(composed, tmp_path) != 0


def test_model_probe_and_strength_reach_the_servers_command_line(app: cyclopts.App) -> None:
    settings = {
        "REWARD_MODEL": "org/model",
        "REWARD_PROBE": "/models/probes/other",
        "REWARD_KAPPA": "other=1.5",
        "GENERATOR_MODEL": "/models/policy",
    }
    services = stack("cpu", settings)["services"]
    reward = parse(app, services["reward"]["command"])
    assert reward["model"] == "org/model"
    assert reward["probes"] == ("/models/probes/other",)
    assert reward["kappas"] == {"other": 1.5}
    generator = parse(app, services["generator"]["command"])
    assert generator["model"] == Path("/models/policy")
    assert stack("gpu", settings)["services"]["generator"]["command"][0] == "/models/policy"


def test_ports_are_moved_on_the_host_and_not_in_the_containers() -> None:
    services = stack("gpu", {"REWARD_PORT": "18000", "GRAFANA_PORT": "13000"})["services"]
    assert services["reward"]["ports"] == ["127.0.0.1:18000:8000"]
    assert services["grafana"]["ports"] == ["127.0.0.1:13000:3000"]
    assert "--port=8000" in services["reward"]["command"]


def test_services_that_run_together_have_a_gpu_each_and_one_gpu_is_said_how() -> None:
    assert devices(stack("gpu")["services"]) == GPUS
    assert GPUS["reward"] != GPUS["generator"]
    assert devices(stack("gpu", {"REWARD_GPU": "GPU-1-2"})["services"])["reward"] == "GPU-1-2"
    page = (ROOT / "docs" / "stack.md").read_text()
    (line,) = re.findall(r"With one GPU: (.*)\.$", EXAMPLE.read_text(), re.MULTILINE)
    settings = dict(one.split("=") for one in line.split(", "))
    assert all(f"{name}={value}" in page for name, value in settings.items())
    services = stack("gpu", settings)["services"]
    assert {*devices(services).values()} == {"0"}
    share = "--gpu-memory-utilization=" + settings["GENERATOR_GPU_SHARE"]
    assert share in services["generator"]["command"]
    assert 0 < float(settings["GENERATOR_GPU_SHARE"]) < 0.5  # the rest is the reward server's


@pytest.mark.parametrize("kind", KINDS)
def test_every_container_is_limited_in_memory_and_processes(kind: str) -> None:
    for name, service in stack(kind)["services"].items():
        assert service["pids_limit"] >= 512, name
        shared = mebibytes(service.get("shm_size", "0m"))  # counts as memory
        assert mebibytes(service["mem_limit"]) > shared + 512, name
    small = stack(kind, {"REWARD_MEMORY": "16g", "PIDS": "2048"})["services"]
    assert (small["reward"]["mem_limit"], small["reward"]["pids_limit"]) == ("16g", 2048)


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_cannot_start_is_not_started_for_ever(kind: str) -> None:
    for name, service in stack(kind)["services"].items():
        policy = service.get("restart")
        assert name in JOBS or re.fullmatch(r"on-failure:[1-9]", policy), name
        assert name not in JOBS or policy is None
