"""The options of `python -m bench`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from bench.load.workloads import WORKLOADS


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What is measured, and how often."""

    model: str = "build/demo/model"
    """Folder of the reward model; all arms load it."""

    probe: Annotated[tuple[str, ...] | None, Parameter(negative="")] = None
    """Folder of a probe that Candor serves with the model; may be repeated. Default: the demo's
    probe for the demo's model, and no probe for any other model."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Dtype of the weights in every arm. auto: bfloat16 where the CPU has kernels for it."""

    arms: str = "all"
    """Names of the arms to measure, separated by commas, or all."""

    workloads: str = ",".join(WORKLOADS)
    """Workloads to measure, separated by commas: groups, unique, open."""

    repetitions: int = 3
    """Repetitions of the measurements that a goal needs; all others are made once."""

    items: int = 128
    """Items per measurement, a multiple of 16. Fewer items are quicker and less like a trainer."""

    concurrency: int = 32
    """Single requests in flight in the closed loop."""

    open_s: float = 40.0
    """Length of an open loop in seconds."""

    seed: int = 0
    """Seed of the texts and of the arrival times."""

    out: Path | None = None
    """Folder for the result. Default: runs/bench/TIME."""

    quick: bool = False
    """Measure three arms once on a tiny random model: shows that the bench runs."""
