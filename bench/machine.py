"""What the numbers were measured on: the machine, the code, and the rate of its matrix products.

The rate is read beside every measurement: it is the limit that no engine passes on this machine at
this moment, and what tells a noisy reading from a slow engine.
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
"""Of the square matrices that are multiplied."""

READINGS = 3


Dtype = Literal["float32", "bfloat16"]


def pick_dtype(wanted: Literal["auto"] | Dtype) -> Dtype:
    """`auto` is bfloat16 where the CPU has kernels of its own for it, else float32."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if cpu_dtype(torch.bfloat16) == torch.bfloat16 else "float32"


class Matmul:
    """The rate of `SIZE`-cubed matrix products on all cores, in one dtype."""

    def __init__(self, dtype: str) -> None:
        draw = torch.Generator().manual_seed(0)
        self._left, self._right = (
            torch.randn(SIZE, SIZE, generator=draw).to(getattr(torch, dtype)) for _ in range(2)
        )

    def flops_per_s(self) -> float:
        """The best of a few: what the machine can do just now, not what a neighbour left of it."""
        torch.set_num_threads(os.cpu_count() or 1)
        seconds = []
        for _ in range(READINGS + 1):  # the first one wakes the threads
            began = time.perf_counter()
            torch.mm(self._left, self._right)
            seconds.append(time.perf_counter() - began)
        return 2 * SIZE**3 / min(seconds[1:])


def flops_per_token(folder: str) -> int:
    """Of the linears of the trunk's blocks: two a weight. Attention's own products are left out, so
    a limit made of it is a little too high, and a share of it a little too low. Reads config.json
    only."""
    with torch.device("meta"):
        config = AutoConfig.from_pretrained(folder)
        model = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    blocks = decoder(model).layers
    assert isinstance(blocks, nn.ModuleList)
    return 2 * sum(
        module.weight.numel() for module in blocks.modules() if isinstance(module, nn.Linear)
    )


def distinct_tokens(sequences: Sequence[Sequence[int]]) -> int:
    """Tokens that are left when every shared prefix worth sharing is computed once."""
    return lay_out(sequences).num_tokens


class OthersCpu:
    """How much CPU time the rest of the machine took since this was made: neighbours' work, that
    makes a measurement doubtful."""

    def __init__(self) -> None:
        self._busy = _busy_s()
        self._own = time.process_time()

    def seconds(self, arm_s: float) -> float:
        """Busy time less this process's own and `arm_s`, the measured arm's."""
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
