"""The commands and healthchecks of the compose file as processes on this machine: they start where
all is right, and end with a reason where a path is wrong.

Paths in the containers become paths here, and ports become free ones; nothing else is changed.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import httpx2
import pytest

from candor.jobs.running.files import read_rows, write_rows
from candor.jobs.running.processes import candor, free_port, running
from tests.jobs.generator.tiny_lm import tiny_lm
from tests.paths import ROOT
from tests.serve_process import save_served, serve_environment
from tests.stack.composed import stack
from tests.tiny import save_tiny, tiny_tokenizer

pytestmark = pytest.mark.slow  # each server imports torch

API_KEY, OPERATOR_KEY, GENERATOR_KEY = "a" * 32, "o" * 32, "g" * 32
SECRETS = {
    "candor_api_key": API_KEY,
    "candor_operator_key": OPERATOR_KEY,
    "generator_api_key": GENERATOR_KEY,
}
WRONG = {
    "reward": ["model", "probe", "api-key-file", "operator-key-file"],
    "generator": ["model", "api-key-file"],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What compose mounts: /models and /run/secrets."""
    root = tmp_path_factory.mktemp("root")
    models = save_served(root / "models")
    (models / "probes").mkdir()
    (models / "sycophancy").rename(models / "probes" / "sycophancy")
    save_tiny(models / "generator", tiny_lm(), tiny_tokenizer())
    message = {"role": "user", "content": "Is it good?"}
    prompts = [{"key": f"k{n}", "messages": [message]} for n in range(2)]
    (models / "prompts").mkdir()
    write_rows(models / "prompts" / "prompts.jsonl", prompts)
    (root / "run" / "secrets").mkdir(parents=True)
    for name, key in SECRETS.items():
        (root / "run" / "secrets" / name).write_text(key)
    return root


def here(text: str, root: Path) -> str:
    """A container's path as the path of this machine."""
    for folder in ("/models/", "/run/secrets/"):
        text = text.replace(folder, f"{root}{folder}")
    return text


def arguments(service: str, root: Path, port: int, **wrong: str) -> list[str]:
    """A service's command with these values of its flags in place of its own."""
    found = []
    for argument in stack("cpu")["services"][service]["command"]:
        flag, _, value = here(argument, root).partition("=")
        changed = {"port": str(port), "host": "127.0.0.1"} | wrong
        value = changed.get(flag.removeprefix("--"), value)
        found.append(f"{flag}={value}" if value else flag)
    return found


def healthy(service: str, port: int, target: int) -> bool:
    kind, _, *rest = stack("cpu")["services"][service]["healthcheck"]["test"]
    assert kind == "CMD"
    rest[-1] = rest[-1].replace(f":{target}/", f":{port}/")
    return subprocess.run(["python3", *rest], capture_output=True, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("service", "flag"), [(service, flag) for service, flags in WRONG.items() for flag in flags]
)
def test_a_wrong_path_ends_the_start_with_its_reason_as_the_last_line(
    root: Path, service: str, flag: str
) -> None:
    missing = str(root / "models" / "not-there")
    command = candor(*arguments(service, root, free_port(), **{flag: missing}))
    done = subprocess.run(
        command, env=serve_environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode in (1, 2)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("candor: ")
    assert missing in last
    assert "Traceback" not in done.stderr


def test_every_path_on_the_command_lines_is_among_the_wrong_ones(root: Path) -> None:
    for service, flags in WRONG.items():
        found = [part for part in arguments(service, root, 0) if str(root) in part]
        assert [part.partition("=")[0].removeprefix("--") for part in found] == flags


@pytest.mark.parametrize("value", ["other=2.0", "sycophancy=much"])
def test_a_wrong_strength_ends_the_start_likewise(root: Path, value: str) -> None:
    command = candor(*arguments("reward", root, free_port(), kappa=value))
    done = subprocess.run(
        command, env=serve_environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2
    assert value.partition("=")[2 if "much" in value else 0] in done.stderr.splitlines()[-1]


def test_best_of_n_runs_against_both_servers_each_with_its_own_key(
    root: Path, tmp_path: Path
) -> None:
    """The commands of reward, generator and best-of-n, with the script and the healthchecks."""
    ports = {"reward": (free_port(), 8000), "generator": (free_port(), 8001)}
    urls = {name: f"http://127.0.0.1:{port}" for name, (port, _) in ports.items()}
    ready = {"reward": "/readyz", "generator": "/health"}
    job = stack("cpu")["services"]["best-of-n"]["environment"]
    environment = {name: here(value, root) for name, value in job.items()}
    environment |= {
        "REWARD_URL": urls["reward"],
        "GENERATOR_URL": urls["generator"],
        "OUT": str(tmp_path / "out"),
        "N": "2",
        "MAX_TOKENS": "4",
        "PATH": f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }

    def script(**more: str) -> subprocess.CompletedProcess[str]:
        shell = ["sh", str(ROOT / "docker" / "best-of-n.sh")]
        return subprocess.run(
            shell, env=environment | more, capture_output=True, text=True, timeout=300
        )

    with running(
        candor(*arguments("reward", root, ports["reward"][0])),
        ready_url=urls["reward"] + ready["reward"],
        log=tmp_path / "reward",
        timeout_s=300,
        environment=serve_environment(),
    ), running(
        candor(*arguments("generator", root, ports["generator"][0])),
        ready_url=urls["generator"] + ready["generator"],
        log=tmp_path / "generator",
        timeout_s=300,
        environment=serve_environment(),
    ):  # fmt: skip
        assert all(healthy(name, *of) for name, of in ports.items())
        assert not healthy("reward", free_port(), 8000)
        models = f"{urls['generator']}/v1/models"
        assert httpx2.get(models).status_code == 401
        wrong = {"Authorization": f"Bearer {API_KEY}"}
        assert httpx2.get(models, headers=wrong).status_code == 401
        swapped = script(GENERATOR_API_KEY_FILE=environment["API_KEY_FILE"])
        assert swapped.returncode != 0
        assert "401" in swapped.stderr
        done = script()
        assert done.returncode == 0, done.stderr
        lost = script(PROMPTS=str(tmp_path / "not-there.jsonl"), OUT=str(tmp_path / "lost"))
        assert lost.returncode != 0
        assert "not-there.jsonl" in lost.stderr.splitlines()[-1]
    scored = read_rows(tmp_path / "out" / "scored.jsonl")
    assert {row["key"] for row in scored} == {"k0", "k1"}
    assert all(len(row["scores"]) == 2 for row in scored)
    assert (tmp_path / "out" / "bon.json").is_file()
