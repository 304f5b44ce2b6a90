"""The machine and the code that were measured, and the rate of the machine's matrix products.

The rate is read beside every measurement. It is the limit that no engine exceeds on this machine at
this moment, and tells a noisy measurement from a slow engine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, Literal

import psutil
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from candor.forward.head import decoder
from candor.forward.precision import cpu_dtype
from candor.forward.prefix import lay_out
from candor.jobs.running.manifest import git_state, machine, package_versions

SIZE = 2048
"""Rows and columns of the matrices that are multiplied."""

READINGS = 3


Dtype = Literal["float32", "bfloat16"]


def pick_dtype(wanted: Literal["auto"] | Dtype) -> Dtype:
    """`auto` is bfloat16 where the CPU has kernels for bfloat16, else float32."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if cpu_dtype(torch.bfloat16) == torch.bfloat16 else "float32"


class Matmul:
    """The rate of products of `SIZE` x `SIZE` matrices on all cores, in one dtype."""

    def __init__(self, dtype: str) -> None:
        draw = torch.Generator().manual_seed(0)
        self._left, self._right = (
            torch.randn(SIZE, SIZE, generator=draw).to(getattr(torch, dtype)) for _ in range(2)
        )

    def flops_per_s(self) -> float:
        """The best of a few readings, so that a burst of other work does not lower the rate."""
        torch.set_num_threads(os.cpu_count() or 1)
        seconds = []
        for _ in range(READINGS + 1):  # the first one wakes the threads
            began = time.perf_counter()
            torch.mm(self._left, self._right)
            seconds.append(time.perf_counter() - began)
        return 2 * SIZE**3 / min(seconds[1:])


def flops_per_token(folder: str) -> int:
    """FLOPs of the linear layers in the trunk's blocks: two per weight. Reads config.json alone.

    Attention's own products are left out. So a limit computed from this number is slightly too
    high, and a share of the limit slightly too low.
    """
    with torch.device("meta"):
        config = AutoConfig.from_pretrained(folder)
        model = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    blocks = decoder(model).layers
    assert isinstance(blocks, nn.ModuleList)
    return 2 * sum(
        module.weight.numel() for module in blocks.modules() if isinstance(module, nn.Linear)
    )


def distinct_tokens(sequences: Sequence[Sequence[int]]) -> int:
    """Tokens to compute when every shared prefix that is worth sharing is computed once."""
    return lay_out(sequences).num_tokens


class OthersCpu:
    """CPU time that other processes took since this object was made. Much of it makes a measurement
    doubtful."""

    def __init__(self) -> None:
        self._busy = _busy_s()
        self._own = time.process_time()

    def seconds(self, arm_s: float) -> float:
        """The machine's busy time without this process's own and without `arm_s`, the arm's."""
        own = time.process_time() - self._own
        return max(0.0, _busy_s() - self._busy - own - arm_s)


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + getattr(times, "steal", 0.0))


def describe() -> dict[str, Any]:
    """Machine, versions and commit, for the result's file."""
    return {
        "machine": machine() | {"memory_bytes": psutil.virtual_memory().total},
        "versions": package_versions(),
        "git": git_state(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "load_average": os.getloadavg(),
    }
