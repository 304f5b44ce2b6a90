"""`python -m bench`: Candor beside its peers, in one run; `make bench`. docs/bench.md says how to
read it.

Progress is on stderr; on stdout the tables, and as the last line one JSON object with the goals.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from cyclopts import App, Parameter

from bench.arms.table import all_arms
from bench.arms.tiny import save_tiny
from bench.goals import GOALS, judge
from bench.load.workloads import GROUP_SIZE, WORKLOADS
from bench.machine import describe, pick_dtype
from bench.report import agreement, figure, tables
from bench.run import Outcome, Plan, Run
from candor.jobs.running.manifest import now
from candor.jobs.running.processes import exit_on_sigterm

app = App(name="bench", help=__doc__)


@app.default
def bench(
    *,
    model: str = "build/demo/model",
    probe: Annotated[list[str] | None, Parameter(negative="")] = None,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    arms: str = "all",
    workloads: str = ",".join(WORKLOADS),
    repetitions: int = 3,
    items: int = 128,
    concurrency: int = 32,
    open_s: float = 40.0,
    seed: int = 0,
    out: Path | None = None,
    quick: bool = False,
) -> None:
    """Measure every arm in alternation, on one machine.

    Parameters
    ----------
    model
        Folder of the reward model, the same for all arms.
    probe
        Folders of probes that Candor serves with it; by default the demo's, with the demo's model.
    dtype
        Of the weights in every arm; auto is bfloat16 where the CPU has kernels for it.
    arms
        Names, separated by commas, or all.
    workloads
        Of groups, unique and open, separated by commas.
    repetitions
        Of everything that a goal rests on; the rest is measured once.
    items
        Of one measurement; a multiple of 16. Fewer is quicker, and less like a trainer.
    concurrency
        Of single requests in the closed loop.
    open_s
        Length of one open loop, in seconds.
    seed
        Of the texts and the arrivals.
    out
        Folder for the result; by default runs/bench/<time>.
    quick
        A tiny random model, three arms, one repetition: shows that the bench runs.
    """
    if quick:
        model, arms, repetitions, items, open_s = "", "packed,padded,bare", 1, 16, 1.0
    if items < GROUP_SIZE or items % GROUP_SIZE or repetitions < 1 or open_s <= 0:
        sys.exit(f"bench: --items: a multiple of {GROUP_SIZE}; --repetitions, --open-s: positive")
    chosen = workloads.split(",")
    if unknown := sorted({*chosen} - {*WORKLOADS}):
        sys.exit(f"bench: --workloads {unknown[0]}: use {', '.join(WORKLOADS)}")
    folder = out or Path("runs/bench") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    with tempfile.TemporaryDirectory() as temporary:
        if quick:
            model = str(save_tiny(Path(temporary)))
        elif not Path(model).is_dir():
            sys.exit(f"bench: --model {model}: no such folder (make assets builds the demo's)")
        if probe is None:
            probe = ["build/demo/probes/sycophancy"] if model == "build/demo/model" else []
        picked = pick_dtype(dtype)
        every = all_arms(model, probe, picked)
        names = [arm.name for arm in every] if arms == "all" else arms.split(",")
        if unknown := sorted({*names} - {arm.name for arm in every}):
            known = ", ".join(arm.name for arm in every)
            sys.exit(f"bench: --arms {unknown[0]}: use {known}")
        plan = Plan(
            model=model,
            dtype=picked,
            arms=[arm for arm in every if arm.name in names],
            workloads=chosen,
            repetitions=repetitions,
            num_items=items,
            concurrency=concurrency,
            open_s=open_s,
            seed=seed,
            folder=folder / "logs",
        )
        _write(folder, plan, *_timed(plan))


def _timed(plan: Plan) -> tuple[dict[str, Any], Outcome]:
    """What is known before, and what came out; of a run that is stopped, what there is so far."""
    exit_on_sigterm()  # paused servers must not be left behind
    before = describe() | {"started": now(), "argv": sys.argv[1:]}
    began = time.monotonic()
    run = Run(plan)
    stopped = False
    try:
        run.go()
    except (KeyboardInterrupt, SystemExit):
        stopped = True
    return before | {"seconds": time.monotonic() - began, "stopped": stopped}, run.outcome


def _write(folder: Path, plan: Plan, about: dict[str, Any], outcome: Outcome) -> None:
    """The result's files, the tables and the last line."""
    goals = [judge(goal, outcome.records) for goal in GOALS]
    result = about | {
        "model": plan.model,
        "dtype": plan.dtype,
        "repetitions": plan.repetitions,
        "num_items": plan.num_items,
        "concurrency": plan.concurrency,
        "open_s": plan.open_s,
        "seed": plan.seed,
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
            row = {"workload": name, "seed": plan.seed, "texts": [asdict(text) for text in texts]}
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    text = tables(result)
    (folder / "table.md").write_text(text, encoding="utf-8")
    (folder / "figure.svg").write_text(figure(result), encoding="utf-8")
    print(text)
    last = {"result": str(folder / "result.json"), "dtype": plan.dtype, "goals": goals}
    print(orjson.dumps(last | {"seconds": round(about["seconds"], 1)}).decode())
    if about["stopped"]:
        sys.exit("bench: stopped before its end; what was measured until then is written")


if __name__ == "__main__":
    app()
