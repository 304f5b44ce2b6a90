"""The compose files, the job scripts and the command line they call.

Docker is not needed: the files are merged as compose would, and every `candor` command in them is
parsed by the real command. Not tested here: that the images build and run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cyclopts
import pytest

from candor.flags import UsageError
from candor.jobs.running.processes import candor
from demo.servers import KAPPA
from tests.stack.command_line import parse
from tests.stack.composed import KINDS, ROOT, binds, stack

CANDOR_IMAGES = {"candor-reward", "candor-jobs", "candor-lab"}
JOBS = {"best-of-n", "rl", "bench"}
SCRIPTS = {"best-of-n": "best-of-n.sh", "rl": "rl.sh"}


def candor_commands(services: dict[str, Any]) -> dict[str, list[str]]:
    """Arguments of `candor` by service: those whose image's entry point is not replaced."""
    return {
        name: service["command"]
        for name, service in services.items()
        if service["image"].split(":")[0] in CANDOR_IMAGES and "entrypoint" not in service
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_service_has_a_healthcheck_or_is_a_job_with_a_profile(kind: str) -> None:
    services = stack(kind)["services"]
    without = {name for name, service in services.items() if "healthcheck" not in service}
    assert without == JOBS
    profiles = {name: service.get("profiles") for name, service in services.items()}
    assert profiles == {name: [name] if name in JOBS else None for name in services}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_service_waits_for_can_become_healthy(kind: str) -> None:
    services = stack(kind)["services"]
    for name, service in services.items():
        waits = service.get("depends_on", {})
        assert set(waits) <= services.keys(), name
        assert all(wait == {"condition": "service_healthy"} for wait in waits.values())
        assert all("healthcheck" in services[other] for other in waits), name


@pytest.mark.parametrize("kind", KINDS)
def test_every_service_is_confined(kind: str) -> None:
    writable = set()
    for name, service in stack(kind)["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc"} & set(service)
        assert not [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")]
        assert "docker.sock" not in str(service.get("volumes")), name
        # What comes from the host is only read, and must be there.
        for mount in binds(service).values():
            assert mount["type"] == "bind"
            assert mount["read_only"] is True
            assert mount["bind"] == {"create_host_path": False}
        named = [mount for mount in service.get("volumes", []) if isinstance(mount, str)]
        assert all(re.fullmatch(r"[a-z]+:/[a-z/.]+", mount) for mount in named), name
        if not service["read_only"]:
            writable.add(name)
    assert writable == ({"generator"} if kind == "gpu" else set())


@pytest.mark.parametrize("kind", KINDS)
def test_no_image_is_run_as_root_or_without_an_exact_version(kind: str) -> None:
    own_user = {"prom/prometheus", "grafana/grafana"}  # nobody, 472
    for name, service in stack(kind)["services"].items():
        image, _, tag = service["image"].partition(":")
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag), name
        assert image in CANDOR_IMAGES | own_user or service["user"] == "2000:0", name
    for path in ROOT.glob("docker/*.Dockerfile"):
        lines = path.read_text().splitlines()
        assert "USER 10001" in lines
        bases = [line.split()[1] for line in lines if line.startswith("FROM python")]
        assert bases
        assert all(re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base) for base in bases)


@pytest.mark.parametrize("kind", KINDS)
def test_secrets_are_files_and_only_the_operators_services_get_the_operators_key(kind: str) -> None:
    composed = stack(kind)
    for name, secret in composed["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
    holders: dict[str, set[str]] = {name: set() for name in composed["secrets"]}
    for name, service in composed["services"].items():
        for secret in service.get("secrets", []):
            holders[secret].add(name)
        for variable, value in service.get("environment", {}).items():
            assert not re.search(r"KEY$|PASSWORD$|TOKEN$|SECRET$", variable), (name, variable)
            if value.startswith("/run/secrets/"):
                assert value.removeprefix("/run/secrets/") in service["secrets"], name
    assert holders == {
        "candor_api_key": {"reward", "best-of-n", "rl"},
        "candor_operator_key": {"reward", "prometheus", "rl"},
        "generator_api_key": {"generator", "best-of-n"},
        "grafana_admin_password": {"grafana"},
        "hf_token": {"reward", "generator", "rl"},
    }


def test_the_secrets_script_draws_each_once_and_lets_nobody_else_into_the_folder(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "secrets"

    def draw(**environment: str) -> dict[str, str]:
        command = ["sh", ROOT / "docker" / "secrets.sh", folder]
        path = {"PATH": os.environ["PATH"]}
        subprocess.run(command, env=path | environment, check=True, timeout=30)
        return {path.name: path.read_text() for path in folder.iterdir()}

    first = draw()
    assert first.keys() == stack("gpu")["secrets"].keys()
    assert first.pop("hf_token") == ""
    assert len({*first.values()}) == 4
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in first.values())
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o444 for path in folder.iterdir())
    assert draw(HF_TOKEN="hf_1") == first | {"hf_token": "hf_1"}
    assert draw(HF_TOKEN="hf_2") == draw() == first | {"hf_token": "hf_1"}
    assert (folder / "hf_token").stat().st_mode & 0o777 == 0o444
    (folder / "candor_api_key").unlink()
    again = draw()
    assert [name for name in first if again[name] != first[name]] == ["candor_api_key"]


def test_an_empty_token_file_is_no_token_for_the_hub(tmp_path: Path) -> None:
    """What `HF_TOKEN_PATH` leads to in the containers, before and after the user has a token."""
    path = tmp_path / "hf_token"
    script = "from huggingface_hub import get_token; print(get_token())"
    for content, token in (("", "None"), ("hf_1", "hf_1")):
        path.write_text(content)
        environment = {"HF_TOKEN_PATH": str(path), "HF_HOME": str(tmp_path)}
        command = [sys.executable, "-c", script]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout == f"{token}\n"


def test_the_cpu_stack_asks_for_no_gpu_and_the_other_does() -> None:
    def asks(kind: str) -> set[str]:
        return {n for n, service in stack(kind)["services"].items() if "nvidia" in str(service)}

    assert asks("gpu") == {"reward", "generator", "rl", "bench"}
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
    assert reward["kappas"] == {"sycophancy": KAPPA}  # the strength `make demo` reports on
    assert reward["probes"] == ("/models/probes/sycophancy",)
    # Jobs and Prometheus call it `reward`: a server with a key answers to every name.
    assert reward["api_key_file"] is not None
    assert reward["inspector"] is True  # docs/stack.md sends the reader to it
    if kind == "cpu":
        generator = parse(app, commands["generator"])
        assert generator["api_key_file"] == Path("/run/secrets/generator_api_key")


@pytest.mark.parametrize(
    "wrong", ["--kapa=sycophancy=1.0", "--port=eight", "--model-name=x", "positional"]
)
def test_a_flag_that_was_renamed_would_be_seen(app: cyclopts.App, wrong: str) -> None:
    arguments = candor_commands(stack("gpu")["services"])["reward"]
    with pytest.raises(cyclopts.CycloptsError):
        parse(app, [*arguments, wrong])
    with pytest.raises(cyclopts.CycloptsError):
        parse(app, ["serve"])  # --model is missing


def script_calls(
    folder: Path, script: str, environment: dict[str, str], *more: str
) -> list[list[str]]:
    """What a job's script calls `candor` with, run by a real shell with a `candor` that notes."""
    noted, command = folder / "noted", folder / "candor"
    command.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" '' >> {noted}\n")
    command.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    shell = ["sh", str(ROOT / "docker" / script), *more]
    subprocess.run(shell, env=environment | {"PATH": path}, check=True, timeout=30)
    return [call.split("\n") for call in noted.read_text().strip("\n").split("\n\n")]


@pytest.mark.parametrize("kind", KINDS)
def test_best_of_n_calls_commands_the_command_line_takes(
    app: cyclopts.App, tmp_path: Path, kind: str
) -> None:
    environment = stack(kind)["services"]["best-of-n"]["environment"]
    calls = script_calls(tmp_path, "best-of-n.sh", environment)
    assert [call[0] for call in calls] == ["generate", "score", "bon"]
    generate, score, bon = (parse(app, call) for call in calls)
    assert generate["out"] == score["rollouts"]
    assert score["out"] == bon["scored"]
    assert generate["prompts"] == Path("/models/prompts/prompts.jsonl")
    # Each server gets its own key and no other.
    assert generate["api_key_file"] == Path("/run/secrets/generator_api_key")
    assert score["api_key_file"] == Path("/run/secrets/candor_api_key")
    with pytest.raises(cyclopts.CycloptsError):
        parse(app, [*calls[0], "--renamed=1"])


def test_rl_calls_a_command_the_command_line_takes_with_what_the_user_adds(
    app: cyclopts.App, tmp_path: Path
) -> None:
    environment = stack("gpu")["services"]["rl"]["environment"] | {"OUT": str(tmp_path / "rl")}
    written, call = script_calls(tmp_path, "rl.sh", environment, "--steps", "7")
    rl = parse(app, call)
    assert (written[:2], call[0]) == (["data", "questions"], "rl")
    assert parse(app, written)["out"] == rl["prompts"] == tmp_path / "rl" / "prompts.jsonl"
    assert rl["steps"] == 7
    assert rl["policy"] == Path("/models/generator")
    assert rl["operator_key_file"] == Path("/run/secrets/candor_operator_key")
    with pytest.raises(cyclopts.CycloptsError):
        parse(app, [*call, "--renamed=1"])
    own = stack("gpu", {"RL_PROMPTS": "/models/mine.jsonl"})["services"]["rl"]["environment"]
    (tmp_path / "noted").unlink()
    (call,) = script_calls(tmp_path, "rl.sh", own)
    assert parse(app, call)["prompts"] == Path("/models/mine.jsonl")


def test_the_prompts_that_rl_writes_itself_are_none_of_its_evaluation(tmp_path: Path) -> None:
    """`candor rl` refuses such prompts. The demo's prompts, which best-of-n has, are among them."""
    pytest.importorskip("trl", reason="TRL is not installed")
    text = (ROOT / "docker" / "rl.sh").read_text()
    (flags,) = re.findall(r'candor data questions --out "\$PROMPTS" (.*) >&2', text)
    path = tmp_path / "prompts.jsonl"
    command = candor("data", "questions", f"--out={path}", *flags.split())
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    from candor.jobs.rl.inputs import check_apart, evaluation_rows, training_rows

    held_out = evaluation_rows(None)
    assert len(held_out) > 50
    assert len(training_rows(path)) >= 100
    check_apart(path, training_rows(path), held_out)
    with pytest.raises(UsageError, match="also a prompt of the evaluation"):
        check_apart(path, held_out, held_out)


def test_bench_is_called_with_flags_it_takes() -> None:
    bench = pytest.importorskip("bench.__main__", reason="bench's packages are not installed")
    service = stack("gpu")["services"]["bench"]
    assert service["entrypoint"] == ["python", "-m", "bench"]
    assert parse(bench.app, service["command"])["model"] == "/models/model"
    with pytest.raises(cyclopts.CycloptsError):
        parse(bench.app, ["--renamed=1"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("job", SCRIPTS)
def test_a_job_calls_services_by_the_names_ports_and_model_they_have(job: str, kind: str) -> None:
    services = stack(kind)["services"]
    environment = services[job]["environment"]
    urls = [urlsplit(value) for name, value in environment.items() if name.endswith("_URL")]
    assert urls
    for url in urls:
        host = services[str(url.hostname)]
        assert f"--port={url.port}" in host["command"]
        assert f"127.0.0.1:{url.port}/" in host["healthcheck"]["test"][-1]
        assert str(url.hostname) in services[job]["depends_on"]
    if name := environment.get("GENERATOR_MODEL"):
        assert f"--served-model-name={name}" in services["generator"]["command"]


def test_the_scripts_the_jobs_run_are_those_that_are_mounted() -> None:
    for job, script in SCRIPTS.items():
        service = stack("gpu")["services"][job]
        assert service["entrypoint"] == ["sh", f"/jobs/{script}"]
        assert binds(service)[f"./docker/{script}"]["target"] == f"/jobs/{script}"


def test_files_that_are_mounted_from_the_repository_are_there() -> None:
    mounted = {
        source
        for service in stack("gpu")["services"].values()
        for source in binds(service)
        if source.startswith("./docker/")
    }
    assert len(mounted) == 7
    assert [name for name in mounted if not (ROOT / name).exists()] == []
    assert all((ROOT / s["build"]["dockerfile"]).is_file() for s in built())


def built() -> list[dict[str, Any]]:
    return [service for service in stack("gpu")["services"].values() if "build" in service]


def test_a_service_is_built_from_a_stage_that_the_dockerfile_has() -> None:
    for service in built():
        text = (ROOT / service["build"]["dockerfile"]).read_text()
        target = service["build"].get("target")
        assert target is None or re.search(rf"^FROM .* AS {target}$", text, re.MULTILINE)
