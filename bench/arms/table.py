"""The arms: every server that is measured, how it starts and what it is asked.

Each is optional: one that cannot run here is left out of the tables, with the reason in the result.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args, get_type_hints

from bench.load.wire import CANDOR, PADDED, VLLM, Wire
from candor.settings import Settings

VLLM_PYTHON = Path(".venv-vllm/bin/python")

SINGLE = ("groups/single", "unique/single")
BATCH = ("groups/batch", "unique/batch")


@dataclass(frozen=True, slots=True)
class Arm:
    """One competitor.

    Attributes:
        name: in flags and in the result; `title` in tables.
        wire: None for the bare engine, which speaks over pipes.
        command: argv for a port.
        environment: added to a clean one.
        cells: `workload/mode` it takes part in.
        missing: why it cannot run here; empty if it can.
    """

    name: str
    title: str
    wire: Wire | None
    command: Callable[[int], list[str]]
    environment: dict[str, str] = field(default_factory=dict)
    cells: tuple[str, ...] = (*SINGLE, *BATCH)
    missing: str = ""


def all_arms(model: str, probes: list[str], dtype: str) -> list[Arm]:
    """Every arm, in the order of the tables.

    Args:
        model: folder of the reward model.
        probes: folders of probes that Candor's arms serve.
        dtype: of the weights, the same in every arm.
    """

    def candor(*flags: str, python: str = sys.executable) -> Callable[[int], list[str]]:
        served = [f"--probe={probe}" for probe in probes]
        # A whole batch may take minutes on a slow CPU; it is measured, not refused.
        patient = ["--request-timeout-s=3600", "--watchdog-s=600"]
        start = [python, "-m", "candor", "serve", f"--model={model}", f"--dtype={dtype}"]
        return lambda port: [*start, *served, *patient, f"--port={port}", *flags]

    def module(name: str, *flags: str) -> list[str]:
        return [sys.executable, "-m", name, f"--model={model}", f"--dtype={dtype}", *flags]

    def vllm(*flags: str) -> Callable[[int], list[str]]:
        start = [str(VLLM_PYTHON), "-m", "vllm.entrypoints.openai.api_server", f"--model={model}"]
        start += ["--served-model-name=rm", "--host=127.0.0.1", f"--dtype={dtype}"]
        return lambda port: [*start, f"--port={port}", *flags]

    no_vllm = "" if VLLM_PYTHON.exists() else "no .venv-vllm here (make vllm)"
    engines = get_args(get_type_hints(Settings)["engine"])
    no_engine = "" if "vllm" in engines else "this Candor has no --engine vllm"
    cores = os.cpu_count() or 1
    # A fixed KV cache, as several servers share this machine's memory; vLLM would take nearly all.
    quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "2"}
    all_cores = {
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{cores - 1}",
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    }
    return [
        Arm("packed", "Candor", CANDOR, candor()),
        Arm(
            "fallback",
            "Candor, no native kernel",
            CANDOR,
            candor(),
            {"CANDOR_NATIVE": "0"},
            cells=SINGLE,
        ),
        Arm(
            "candor-vllm",
            "Candor, vLLM engine",
            CANDOR,
            candor("--engine=vllm", python=str(VLLM_PYTHON)),
            quiet | all_cores,
            missing=no_vllm or no_engine,
        ),
        Arm(
            "vllm-tuned",
            "vLLM, all cores, block 32",
            VLLM,
            vllm("--block-size=32"),
            quiet | all_cores,
            missing=no_vllm,
        ),
        Arm("vllm-stock", "vLLM as it starts", VLLM, vllm(), quiet, missing=no_vllm),
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
