"""The compose files and the job's script against the command line they call.

Docker is not needed: the files are read and merged as compose would for what they use, and every
`candor` command in them is parsed by the real command. Not tested here: that the images run.
"""

from __future__ import annotations

import copy
import os
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cyclopts
import pytest
import yaml

from candor.__main__ import main
from demo.run import KAPPA

ROOT = Path(__file__).parents[1]
CANDOR_IMAGE = "candor-reward"
JOBS = {"best-of-n"}
UNCHECKED = {"prometheus"}
"""Nothing waits for it."""


class Reset:
    """A key that an override takes away (`!reset`)."""


class Loader(yaml.SafeLoader):
    """YAML with compose's own tag."""


Loader.add_constructor("!reset", lambda loader, node: Reset())


def merge(base: Any, override: Any) -> Any:
    """Mappings key by key, a command replaced whole; no list in our override needs appending."""
    if not (isinstance(base, dict) and isinstance(override, dict)):
        return override
    merged = copy.deepcopy(base)
    for key, value in override.items():
        if isinstance(value, Reset):
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def read(name: str) -> dict[str, Any]:
    return dict(yaml.load((ROOT / name).read_text(), Loader))  # noqa: S506 (a SafeLoader)


def stack(kind: str) -> dict[str, Any]:
    stock = read("docker-compose.yml")
    return stock if kind == "gpu" else merge(stock, read("docker-compose.cpu.yml"))


@pytest.fixture(scope="module")
def app() -> cyclopts.App:
    """The command's own table of sub-commands, as `main` builds it, stopped before it runs."""
    built: list[cyclopts.App] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cyclopts.App, "__call__", lambda app: built.append(app))
        main()
    return built[0]


def parse(app: cyclopts.App, arguments: list[str]) -> dict[str, Any]:
    """The sub-command's arguments by name.

    Raises:
        CycloptsError: a flag it does not have, a value of the wrong type, a required one missing.
    """
    _, bound, _ = app.parse_args(arguments, print_error=False, exit_on_error=False)
    return bound.arguments


def candor_commands(services: dict[str, Any]) -> dict[str, list[str]]:
    """Arguments of `candor` by service: those whose image's entry point is not replaced."""
    return {
        name: service["command"]
        for name, service in services.items()
        if service["image"].startswith(CANDOR_IMAGE) and "entrypoint" not in service
    }


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_every_service_has_a_healthcheck_or_is_a_job(kind: str) -> None:
    services = stack(kind)["services"]
    without = {name for name, service in services.items() if "healthcheck" not in service}
    assert without == JOBS | UNCHECKED
    assert all(services[name]["profiles"] == ["jobs"] for name in JOBS)


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_what_a_service_waits_for_can_become_healthy(kind: str) -> None:
    services = stack(kind)["services"]
    for name, service in services.items():
        waits = service.get("depends_on", {})
        assert set(waits) <= services.keys(), name
        if isinstance(waits, dict):
            assert all("healthcheck" in services[other] for other in waits), name


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_no_service_is_privileged_or_open_to_the_network(kind: str) -> None:
    for name, service in stack(kind)["services"].items():
        assert not service.get("privileged", False), name
        assert not {"cap_add", "devices", "network_mode", "pid"} & service.keys(), name
        assert not [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")]
        assert not [mount for mount in service.get("volumes", []) if "docker.sock" in mount], name


def test_the_cpu_stack_asks_for_no_gpu_and_the_other_does() -> None:
    def asks(kind: str) -> set[str]:
        return {n for n, service in stack(kind)["services"].items() if "nvidia" in str(service)}

    assert asks("gpu") == {"reward", "generator"}
    assert asks("cpu") == set()


@pytest.mark.parametrize(
    ("kind", "services"), [("gpu", {"reward"}), ("cpu", {"reward", "generator"})]
)
def test_every_candor_command_is_one_the_command_line_takes(
    app: cyclopts.App, kind: str, services: set[str]
) -> None:
    commands = candor_commands(stack(kind)["services"])
    assert commands.keys() == services
    for arguments in commands.values():
        assert parse(app, arguments)
    reward = parse(app, commands["reward"])
    assert reward["kappa"] == [f"sycophancy={KAPPA}"]  # the strength `make demo` reports on
    assert reward["probe"] == ["/models/probes/sycophancy"]
    assert reward["host_name"] == ["reward"]  # the name the job and Prometheus call it by


@pytest.mark.parametrize(
    "wrong", ["--kapa=sycophancy=1.0", "--port=eight", "--model-name=x", "positional"]
)
def test_a_flag_that_was_renamed_would_be_seen(app: cyclopts.App, wrong: str) -> None:
    arguments = candor_commands(stack("gpu")["services"])["reward"]
    with pytest.raises(cyclopts.CycloptsError):
        parse(app, [*arguments, wrong])
    with pytest.raises(cyclopts.CycloptsError):
        parse(app, ["serve"])  # --model is missing


def script_commands(folder: Path, environment: dict[str, str]) -> list[list[str]]:
    """What the job's script calls `candor` with, run by a real shell with a `candor` that notes."""
    noted, command = folder / "noted", folder / "candor"
    command.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" '' >> {noted}\n")
    command.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    script = ["sh", str(ROOT / "docker" / "best-of-n.sh")]
    subprocess.run(script, env=environment | {"PATH": path}, check=True, timeout=30)
    return [call.split("\n") for call in noted.read_text().strip("\n").split("\n\n")]


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_the_jobs_script_calls_commands_the_command_line_takes(
    app: cyclopts.App, tmp_path: Path, kind: str
) -> None:
    environment = stack(kind)["services"]["best-of-n"]["environment"]
    calls = script_commands(tmp_path, environment)
    assert [call[0] for call in calls] == ["generate", "score", "bon"]
    generate, score, bon = (parse(app, call) for call in calls)
    assert generate["out"] == score["rollouts"]
    assert score["out"] == bon["scored"]
    assert generate["prompts"] == Path("/prompts/prompts.jsonl")
    with pytest.raises(cyclopts.CycloptsError):
        parse(app, [*calls[0], "--renamed=1"])


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_the_job_calls_services_by_the_names_ports_and_model_they_have(kind: str) -> None:
    services = stack(kind)["services"]
    environment = services["best-of-n"]["environment"]
    for variable in ("REWARD_URL", "GENERATOR_URL"):
        url = urlsplit(environment[variable])
        assert f"--port={url.port}" in services[str(url.hostname)]["command"]
        check = services[str(url.hostname)]["healthcheck"]["test"]
        assert f"127.0.0.1:{url.port}/" in check[-1]
    name = environment["GENERATOR_MODEL"]
    assert f"--served-model-name={name}" in services["generator"]["command"]
    scraped = re.findall(r'targets: \["(.+)"\]', (ROOT / "docker/prometheus.yml").read_text())
    assert scraped == ["reward:8000", "generator:8001"]


def test_files_that_are_mounted_from_the_repository_are_there() -> None:
    mounted = [
        mount.split(":")[0]
        for service in stack("gpu")["services"].values()
        for mount in service.get("volumes", [])
        if mount.startswith("./docker/")
    ]
    assert len(mounted) == 2
    assert [name for name in mounted if not (ROOT / name).is_file()] == []
