"""`candor env`: what a bug report needs to know of this machine and this installation.

It reads versions from the installed packages without importing them, so that it answers at once,
and also where an import fails. No value of a variable that may hold a key is printed.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from candor.jobs.running.manifest import git_state, machine
from candor.variables import PREFIX
from candor.version import VERSION

PACKAGES = (
    "candor-rewards", "candor-client", "torch", "transformers", "tokenizers", "safetensors",
    "huggingface-hub", "numpy", "scipy", "scikit-learn", "fastapi", "starlette", "uvicorn",
    "pydantic", "httpx2", "cyclopts", "structlog", "vllm", "ray", "trl", "peft", "datasets",
)  # fmt: skip
VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "PYTHONPATH",
    "PYTORCH_CUDA_ALLOC_CONF", "NVIDIA_VISIBLE_DEVICES",
)  # fmt: skip
CPU_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")
"""Instruction sets that decide how fast a CPU scores, and in which number type."""
NO_GPU = "none found (nvidia-smi is not there, or says nothing)"


def env() -> int:
    """Print the versions, the hardware and the settings that a bug report needs."""
    for title, facts in sections():
        print(f"{title}")
        for name, fact in facts.items():
            print(f"  {name:<24}  {fact}")
    return 0


def sections() -> Iterator[tuple[str, Mapping[str, object]]]:
    """(title, facts by name), in the order of the print-out."""
    yield "Candor", _candor()
    yield "Packages", _packages()
    yield "Machine", _machine()
    found = {f"GPU {number}": gpu for number, gpu in enumerate(gpus())}
    yield "GPUs", found or {"GPU": NO_GPU}
    yield "Environment", _environment(os.environ) or {"(nothing)": "no variable of Candor is set"}


def _candor() -> dict[str, object]:
    state = git_state()
    commit = "not a git clone"
    if state is not None:
        commit = state["sha"] + (" with changes" if state["dirty"] else "")
    forward = find_spec("candor.forward")
    folders = forward.submodule_search_locations if forward is not None else None
    built = any(Path(folder, "native_attention.so").exists() for folder in folders or ())
    return {
        "version": VERSION,
        "commit": commit,
        "python": f"{platform.python_version()} at {sys.executable}",
        "compiled CPU attention": "built" if built else "not built; torch computes instead",
    }


def _packages() -> dict[str, object]:
    found: dict[str, object] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "-"
    return found


def _machine() -> dict[str, object]:
    facts = machine()
    has = _cpu_flags()
    return {
        "platform": facts["platform"],
        "CPU": facts["cpu"],
        "cores": f"{facts['num_cpus']}, of which this process may use {_usable_cores()}",
        "CPU instructions": ", ".join(flag for flag in CPU_FLAGS if flag in has) or "-",
        "memory": _memory(),
    }


def _cpu_flags() -> set[str]:
    """The instruction sets of this CPU, by Linux's names; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    named = next((line for line in lines if line.startswith("flags")), "")
    return set(named.partition(":")[2].split())


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> str:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return "-"
    return f"{total / 2**30:.1f} GiB"


def gpus() -> list[str]:
    """Name, memory and driver of each NVIDIA GPU, as nvidia-smi says them."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    wanted = "--query-gpu=name,memory.total,driver_version,compute_cap"
    try:
        told = subprocess.run(
            [command, wanted, "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in told.stdout.splitlines() if line.strip()]


def _environment(environ: Mapping[str, str]) -> dict[str, object]:
    """Variables that change what Candor does. A key is said to be set, and not shown."""
    return {
        name: "(set, not shown)" if _is_secret(name) else environ[name]
        for name in sorted(environ)
        if name.startswith(PREFIX) or name in VARIABLES
    }


def _is_secret(name: str) -> bool:
    return ("KEY" in name and not name.endswith("_FILE")) or "TOKEN" in name.split("_")
