"""`docker/generator.sh`, which gives vLLM its key: run by a real shell with a `vllm` that notes how
it was called."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.stack.composed import stack

VLLM = ROOT / ".venv-vllm" / "bin" / "python"
FLAGS = stack("gpu")["services"]["generator"]["command"]


def start(folder: Path, key: str | None) -> subprocess.CompletedProcess[str]:
    command, file = folder / "vllm", folder / "key"
    command.write_text(f'#!/bin/sh\nprintf "%s\\n" "$VLLM_API_KEY" "$@" > {folder}/noted\nexit 7\n')
    command.chmod(0o755)
    if key is not None:
        file.write_text(key)
    environment = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "API_KEY_FILE": str(file)}
    shell = ["sh", str(ROOT / "docker" / "generator.sh"), *FLAGS]
    return subprocess.run(shell, env=environment, capture_output=True, text=True, timeout=30)


def test_compose_runs_it_with_vllms_flags_and_the_file_of_the_key() -> None:
    service = stack("gpu")["services"]["generator"]
    (script,) = [mount for mount in service["volumes"] if "generator.sh" in str(mount)]
    assert service["entrypoint"] == ["sh", script["target"]]
    assert script["source"] == "./docker/generator.sh"
    assert service["environment"]["API_KEY_FILE"] == "/run/secrets/generator_api_key"


def test_vllm_gets_the_key_in_its_environment_and_not_on_its_command_line(tmp_path: Path) -> None:
    done = start(tmp_path, "s3cret\n")
    key, *arguments = (tmp_path / "noted").read_text().splitlines()
    assert key == "s3cret"
    assert arguments == ["serve", *FLAGS]
    assert done.returncode == 7  # vLLM's own: the shell is gone
    assert "s3cret" not in done.stdout + done.stderr


@pytest.mark.parametrize("key", [None, "", "\n"])
def test_without_a_key_vllm_is_not_started(tmp_path: Path, key: str | None) -> None:
    done = start(tmp_path, key)
    assert done.returncode != 0
    assert not (tmp_path / "noted").exists()
    assert str(tmp_path / "key") in done.stderr.splitlines()[-1]


@pytest.mark.vllm
@pytest.mark.slow
def test_vllm_takes_the_flags_and_the_variable() -> None:
    if not VLLM.is_file():
        pytest.skip("vLLM is not installed: `make vllm`")
    script = (
        "import sys\n"
        "from vllm import envs\n"
        "from vllm.entrypoints.launchers.cli_args import make_arg_parser\n"
        "from vllm.utils.argparse_utils import FlexibleArgumentParser\n"
        "read = make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[1:])\n"
        "names = 'model_tag', 'served_model_name', 'port', 'gpu_memory_utilization'\n"
        "print(*(getattr(read, name) for name in names), envs.VLLM_API_KEY)\n"
    )

    def parse(*more: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"VLLM_API_KEY": "k"}
        command = [VLLM, "-c", script, *FLAGS, *more]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    done = parse()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "/models/generator ['generator'] 8001 0.9 k"
    assert parse("--renamed=1").returncode != 0
