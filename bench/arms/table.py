"""The arms: every server that is measured, with its command, environment and wire format.

An arm that cannot run here is left out of the tables; the result says why.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.load.wire import CANDOR, PADDED, VLLM, WireFormat

VLLM_PYTHON = Path(".venv-vllm/bin/python")

SINGLE = ("groups/single", "unique/single")
BATCH = ("groups/batch", "unique/batch")


@dataclass(frozen=True, slots=True)
class Arm:
    """A server that is measured.

    Attributes:
        name: its name in flags and in the result.
        title: its name in tables.
        wire: its wire format; None for the engine without a server, which speaks over pipes.
        command: from a port to argv.
        environment: variables added to `bench.arms.servers.clean_environment`.
        cells: the cells (`workload/mode`) in which it takes part.
        missing: why it cannot run here; empty if it can.
    """

    name: str
    title: str
    wire: WireFormat | None
    command: Callable[[int], list[str]]
    environment: dict[str, str] = field(default_factory=dict)
    cells: tuple[str, ...] = (*SINGLE, *BATCH)
    missing: str = ""


def all_arms(model: str, probes: Sequence[str], dtype: str) -> list[Arm]:
    """Every arm, in the order of the tables.

    Args:
        model: folder of the reward model.
        probes: folders of the probes that Candor's arms serve.
        dtype: dtype of the weights, the same in every arm.
    """
    # Several servers share this machine's memory, so vLLM's KV cache has a fixed size (GiB).
    quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "2"}
    all_cores = quiet | {
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{(os.cpu_count() or 1) - 1}",
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    }
    return [
        *_candor_arms(model, probes, dtype, all_cores),
        *_vllm_arms(model, dtype, quiet, all_cores),
        *_other_arms(model, dtype),
    ]


def _candor_arms(
    model: str, probes: Sequence[str], dtype: str, all_cores: dict[str, str]
) -> list[Arm]:
    """`candor serve`: as it is, without the native kernel, and on vLLM."""

    def serve(*flags: str, python: str = sys.executable) -> Callable[[int], list[str]]:
        command = [python, "-m", "candor", "serve", f"--model={model}", f"--dtype={dtype}"]
        command += [f"--probe={probe}" for probe in probes]
        # On a slow CPU a whole batch may take minutes: it is measured and not refused.
        command += ["--request-timeout-s=3600", "--watchdog-s=600"]
        return lambda port: [*command, f"--port={port}", *flags]

    return [
        Arm("packed", "Candor", CANDOR, serve()),
        Arm(
            "fallback",
            "Candor, no native kernel",
            CANDOR,
            serve(),
            {"CANDOR_NATIVE": "0"},
            cells=SINGLE,
        ),
        Arm(
            "candor-vllm",
            "Candor, vLLM engine",
            CANDOR,
            serve("--engine=vllm", python=str(VLLM_PYTHON)),
            all_cores,
            missing=_no_vllm(),
        ),
    ]


def _vllm_arms(
    model: str, dtype: str, quiet: dict[str, str], all_cores: dict[str, str]
) -> list[Arm]:
    """vLLM's own pooling server: tuned for this machine, and with its defaults."""

    def serve(*flags: str) -> Callable[[int], list[str]]:
        command = [str(VLLM_PYTHON), "-m", "vllm.entrypoints.openai.api_server", f"--model={model}"]
        command += ["--served-model-name=rm", "--host=127.0.0.1", f"--dtype={dtype}"]
        return lambda port: [*command, f"--port={port}", *flags]

    tuned, missing = serve("--block-size=32"), _no_vllm()
    return [
        Arm("vllm-tuned", "vLLM, all cores, block 32", VLLM, tuned, all_cores, missing=missing),
        Arm("vllm-stock", "vLLM as it starts", VLLM, serve(), quiet, missing=missing),
    ]


def _other_arms(model: str, dtype: str) -> list[Arm]:
    """The padded loop, and Candor's engine without a server."""

    def module(name: str, *flags: str) -> list[str]:
        return [sys.executable, "-m", name, f"--model={model}", f"--dtype={dtype}", *flags]

    return [
        Arm(
            "padded",
            "padded loop",
            PADDED,
            lambda port: module("bench.arms.padded_loop", f"--port={port}"),
        ),
        Arm(
            "bare",
            "engine without a server",
            None,
            lambda port: module("bench.arms.bare"),
            cells=("groups/single", "groups/batch"),
        ),
        Arm(
            "bare-8-probes",
            "engine, 8 probes at 8 layers",
            None,
            lambda port: module("bench.arms.bare", "--probes=8"),
            cells=("groups/single",),
        ),
    ]


def _no_vllm() -> str:
    return "" if VLLM_PYTHON.exists() else "no .venv-vllm here (make vllm)"
