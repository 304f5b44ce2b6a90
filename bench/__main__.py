"""`python -m bench` (`make bench`): Candor beside its peers, in one run.

Progress goes to stderr. The tables go to stdout, and after them a line with one JSON object, which
has the goals. docs/bench.md explains both.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from cyclopts import App

from bench.arms.table import all_arms
from bench.arms.tiny import save_tiny
from bench.goals import BEFORE, GOALS, judge
from bench.load.workloads import GROUP_SIZE, WORKLOADS
from bench.machine import describe, pick_dtype
from bench.options import BenchOptions
from bench.report import agreement, figure, tables
from bench.run import BenchPlan, BenchRun, Outcome
from candor.jobs.running.manifest import now
from candor.jobs.running.processes import exit_on_sigterm

DEMO_MODEL = BenchOptions().model
DEMO_PROBE = "build/demo/probes/sycophancy"

app = App(name="python -m bench")


@app.default
def bench(*, options: BenchOptions = BenchOptions()) -> None:  # noqa: B008 (frozen)
    """Measure how fast Candor and its peers score, all in turns on one machine."""
    folder = options.out or Path("runs/bench") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    with tempfile.TemporaryDirectory() as temporary:
        if options.quick:
            options = replace(
                options,
                model=str(save_tiny(Path(temporary))),
                arms="packed,padded,bare",
                repetitions=1,
                items=GROUP_SIZE,
                open_s=1.0,
            )
        plan = make_plan(options, folder)
        write_result(folder, plan, *measure(plan))


def make_plan(options: BenchOptions, folder: Path) -> BenchPlan:
    """The options, checked, with their names resolved.

    Raises:
        SystemExit: an option is wrong.
    """
    if (
        options.items < GROUP_SIZE
        or options.items % GROUP_SIZE
        or options.repetitions < 1
        or options.open_s <= 0
    ):
        sys.exit(f"bench: --items: a multiple of {GROUP_SIZE}; --repetitions, --open-s: positive")
    workloads = _names("--workloads", options.workloads, list(WORKLOADS))
    if not Path(options.model).is_dir():
        sys.exit(f"bench: --model {options.model}: no such folder (make assets builds the demo's)")
    probes = options.probe
    if probes is None:
        probes = (DEMO_PROBE,) if options.model == DEMO_MODEL else ()
    dtype = pick_dtype(options.dtype)
    arms = all_arms(options.model, probes, dtype, options.before)
    arm_names = [arm.name for arm in arms]
    chosen = arm_names if options.arms == "all" else _names("--arms", options.arms, arm_names)
    return BenchPlan(
        options=options,
        dtype=dtype,
        arms=[arm for arm in arms if arm.name in chosen],
        workloads=workloads,
        logs=folder / "logs",
        goals=(*GOALS, *BEFORE) if options.before else GOALS,
    )


def _names(flag: str, text: str, choices: list[str]) -> list[str]:
    names = text.split(",")
    if unknown := sorted({*names} - {*choices}):
        sys.exit(f"bench: {flag} {unknown[0]}: use {', '.join(choices)}")
    return names


def measure(plan: BenchPlan) -> tuple[dict[str, Any], Outcome]:
    """Facts about the machine and the run, and the measurements. A run that is stopped returns the
    measurements that it has made."""
    exit_on_sigterm()  # paused servers must not be left behind
    about = describe() | {"started": now(), "argv": sys.argv[1:]}
    began = time.monotonic()
    run = BenchRun(plan)
    stopped = False
    try:
        run.go()
    except (KeyboardInterrupt, SystemExit):
        stopped = True
    return about | {"seconds": time.monotonic() - began, "stopped": stopped}, run.outcome


def write_result(folder: Path, plan: BenchPlan, about: dict[str, Any], outcome: Outcome) -> None:
    """Write the result's files; print the tables and the last line."""
    options = plan.options
    goals = [judge(goal, outcome.records) for goal in plan.goals]
    result = about | {
        "model": options.model,
        "dtype": plan.dtype,
        "repetitions": options.repetitions,
        "num_items": options.items,
        "concurrency": options.concurrency,
        "open_s": options.open_s,
        "seed": options.seed,
        "flops_per_token": outcome.flops_per_token,
        "goals": goals,
        "arms": outcome.arms,
        "agreement": agreement(outcome.records),
        "records": outcome.records,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    with (folder / "workloads.jsonl").open("wb") as file:
        for name, texts in outcome.texts.items():
            row = {
                "workload": name,
                "seed": options.seed,
                "texts": [asdict(text) for text in texts],
            }
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    markdown = tables(result)
    (folder / "table.md").write_text(markdown, encoding="utf-8")
    (folder / "figure.svg").write_text(figure(result), encoding="utf-8")
    print(markdown)
    last = {"result": str(folder / "result.json"), "dtype": plan.dtype, "goals": goals}
    print(orjson.dumps(last | {"seconds": round(about["seconds"], 1)}).decode())
    if about["stopped"]:
        sys.exit("bench: stopped before its end; what was measured until then is written")


if __name__ == "__main__":
    app()
