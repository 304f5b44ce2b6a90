"""Environment variables: one set of names per command, and none of them Kubernetes' own."""

from __future__ import annotations

import subprocess
from collections import Counter

import pytest

from candor.cli.commands import COMMANDS
from candor.jobs.running.processes import candor
from candor.variables import configs, forget_empty, forget_service_links, misnamed, variable_of
from tests.paths import ROOT
from tests.serve_process import serve_environment


def service_links(service: str, *ports: tuple[str, int]) -> dict[str, str]:
    """What Kubernetes sets for a service with these named ports, after its documentation ("Service
    discovery: environment variables")."""
    name = service.upper().replace("-", "_")
    first = ports[0][1]
    links = {
        f"{name}_SERVICE_HOST": "10.0.0.11",
        f"{name}_SERVICE_PORT": str(first),
        f"{name}_PORT": f"tcp://10.0.0.11:{first}",
    }
    for label, port in ports:
        links |= {
            f"{name}_SERVICE_PORT_{label.upper().replace('-', '_')}": str(port),
            f"{name}_PORT_{port}_TCP": f"tcp://10.0.0.11:{port}",
            f"{name}_PORT_{port}_TCP_PROTO": "tcp",
            f"{name}_PORT_{port}_TCP_PORT": str(port),
            f"{name}_PORT_{port}_TCP_ADDR": "10.0.0.11",
        }
    return links


OURS = {
    "CANDOR_PROBE_TRAIN_NAME": "sycophancy",
    "CANDOR_SERVE_PORT": "8123",
    "CANDOR_SERVE_HOST": "0.0.0.0",
    "CANDOR_API_KEY": "k",
    "CANDOR_REWARD_URL": "http://candor:8000",
    "PORT": "tcp://10.0.0.1:1",
    "OTHER_SERVICE_HOST": "10.0.0.1",
}


@pytest.mark.parametrize("service", ["candor", "candor-serve", "candor-generator", "candor-score"])
def test_the_variables_of_a_service_are_no_settings(service: str) -> None:
    environ = OURS | {
        name: value
        for name, value in service_links(service, ("http", 8000), ("metrics", 9090)).items()
        if name not in OURS
    }
    forget_service_links(environ)
    assert environ == OURS


def test_the_variables_of_a_docker_link_are_no_settings() -> None:
    """`docker run --link web:candor`, after Docker's documentation ("Legacy container links")."""
    environ = OURS | {"CANDOR_NAME": "/job/candor", "CANDOR_ENV_PATH": "/usr/bin"}
    forget_service_links(environ)
    assert environ == OURS


def test_an_empty_variable_is_unset_but_an_empty_key_is_not() -> None:
    keys = {"CANDOR_API_KEY": "", "CANDOR_SERVE_API_KEY": ""}
    environ = {"CANDOR_SERVE_PORT": "", "CANDOR_SERVE_HOST": "::", "PORT": "", **keys}
    forget_empty(environ)
    assert environ == {"CANDOR_SERVE_HOST": "::", "PORT": "", **keys}


@pytest.mark.parametrize(
    ("command", "service"),
    [
        ("serve", "candor"),
        ("serve", "candor-serve"),
        ("generator", "candor-generator"),
        ("score", "candor"),
    ],
)
def test_a_command_starts_beside_a_service_of_any_name(command: str, service: str) -> None:
    # A missing flag is the first thing that each command complains of.
    ended = subprocess.run(
        candor(*command.split()),
        cwd=ROOT,
        env=serve_environment(**service_links(service, ("http", 8000))),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert f"{command} needs" in line, line


def test_a_variable_of_one_command_does_not_reach_another() -> None:
    """CANDOR_KAPPA="sycophancy=2" was for `serve`, and broke `pairs`."""
    ended = subprocess.run(
        candor("pairs", "absent.jsonl", "--out=out.jsonl"),
        cwd=ROOT,
        env=serve_environment(CANDOR_SERVE_KAPPA="sycophancy=2"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "absent.jsonl" in ended.stderr
    assert "kappa" not in ended.stderr.lower()


def test_no_two_commands_share_a_name() -> None:
    names = Counter(command.name.upper().replace(" ", "_") for command in COMMANDS)
    assert max(names.values()) == 1
    # And no command's name with one of its flags reads as another command's.
    for one in names:
        assert not [other for other in names if other.startswith(f"{one}_")]


FLAGS = ["*", "--port", "--kappa", "--no-openrlhf-extra-logs"]


def test_what_was_meant_and_is_not_read_is_refused_with_the_name_to_write() -> None:
    environ = {
        "CANDOR_KAPPA": "a=1",
        "CANDOR_SERVE_KAPA": "a=1",
        "CANDOR_SERVE_ZZZZ": "a=1",
    }
    assert misnamed("serve", FLAGS, environ) == [
        "CANDOR_KAPPA is not read any more: rename it to CANDOR_SERVE_KAPPA",
        "CANDOR_SERVE_KAPA is no option of candor serve; did you mean CANDOR_SERVE_KAPPA?",
        "CANDOR_SERVE_ZZZZ is no option of candor serve; unset it",
    ]
    assert misnamed("probe calibrate", ["--kappa"], environ) == [
        "CANDOR_KAPPA is not read any more: rename it to CANDOR_PROBE_CALIBRATE_KAPPA"
    ]


def test_what_is_read_or_is_of_others_is_not_refused() -> None:
    environ = {
        "CANDOR_SERVE_PORT": "1",
        "CANDOR_SERVE_CONFIG": "serve.yaml",
        "CANDOR_API_KEY": "k",
        "CANDOR_REWARD_URL": "u",
        "CANDOR_REWARD_PENALTIES": "{}",
        "CANDOR_NATIVE": "0",
        "CANDOR_SCORE_OUT": "x",
        "KAPPA": "a=1",
    }
    assert misnamed("serve", [*FLAGS, "--reward-url"], environ) == []
    assert misnamed("", FLAGS, {"CANDOR_KAPPA": "1"}) == []


@pytest.mark.parametrize("name", ["CANDOR_KAPPA", "CANDOR_SERVE_KAPA"])
def test_a_command_does_not_run_past_a_variable_that_it_does_not_read(name: str) -> None:
    ended = subprocess.run(
        candor("serve", "m"),
        cwd=ROOT,
        env=serve_environment(**{name: "sycophancy=2"}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"candor: {name} is ")
    assert "CANDOR_SERVE_KAPPA" in line
    assert ended.stdout == ""


def test_the_name_of_a_variable_is_that_of_its_flag() -> None:
    assert variable_of("serve", "--port") == "CANDOR_SERVE_PORT"
    assert variable_of("probe train", "--hold-out-kind") == "CANDOR_PROBE_TRAIN_HOLD_OUT_KIND"


def test_the_first_config_is_cyclopts_own() -> None:
    """Its help shows the names of the variables for this class alone."""
    assert type(configs()[0]).__name__ == "Env"
