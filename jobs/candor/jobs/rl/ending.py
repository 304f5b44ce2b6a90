"""How a run ended: summary.json, its manifest, the last line on stdout and the exit status.

A rerun of a run that has ended says again how it ended. A run that a guard ended continues when the
rerun has other guards.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from candor.jobs.rl.evaluation.evaluate import kind_of, numbers_told
from candor.jobs.rl.inputs import Inputs
from candor.jobs.rl.settings import Guards
from candor.jobs.rl.watch import RunEnd
from candor.jobs.running.exits import Exit, JobStopped
from candor.jobs.running.files import Row, write_json
from candor.jobs.running.manifest import write_manifest

TRAINERS_OWN = ("optimizer*", "scheduler*", "scaler*", "rng_state*", "train*", "README.md")
"""Files of a checkpoint that are not the policy."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What the manifest says about a run."""

    out: Path
    identity: dict[str, Any]
    guards: Guards
    inputs: Inputs
    started: str


def ended_before(out: Path, guards: Guards) -> dict[str, Any] | None:
    """The summary of the run in `out`; None when the run has not ended or is to continue."""
    path = out / "summary.json"
    if not path.exists():
        return None
    summary: dict[str, Any] = orjson.loads(path.read_bytes())
    if summary["ended"] != "done" and summary["guards"] != asdict(guards):
        return None
    return summary


def finish(
    run: RunRecord, ended: RunEnd, checkpoint: Path | None, step: int, evaluations: Sequence[Row]
) -> dict[str, Any]:
    """Write the policy of the last checkpoint, summary.json and its manifest; returns the
    summary."""
    if checkpoint is None:
        raise JobStopped(Exit.IO, f"{run.out}: the last checkpoint is missing")
    shutil.copytree(
        checkpoint,
        run.out / "policy",
        ignore=shutil.ignore_patterns(*TRAINERS_OWN),
        dirs_exist_ok=True,
    )
    path = run.out / "summary.json"
    summary = {
        "out": str(run.out),
        "ended": ended.why,
        "reason": ended.reason,
        "guards": asdict(run.guards),
        "steps": step,
        "numbers": numbers_told(kind_of(run.inputs.held_out)),
        "start": evaluations[0],
        "end": evaluations[-1],
    }
    write_json(path, summary)
    inputs = {
        "prompts": run.inputs.prompts,
        "steps": run.out / "steps.jsonl",
        "evals": run.out / "evals.jsonl",
    }
    if run.inputs.eval_prompts is not None:
        inputs["eval_prompts"] = run.inputs.eval_prompts
    write_manifest(
        path,
        command="rl",
        inputs=inputs,
        settings={**run.identity, "guards": asdict(run.guards)},
        server=run.inputs.served,
        counts={"steps": step, "evaluations": len(evaluations)},
        started=run.started,
    )
    return summary


def say(summary: dict[str, Any]) -> Exit:
    """Print how the run ended as one JSON line, the last on stdout.

    Raises:
        JobStopped: (guard) a guard ended the run.
    """
    line = {
        **{name: summary[name] for name in ("out", "ended", "reason", "steps")},
        **{
            at: {name: summary[at][name]["mean"] for name in summary["numbers"]}
            for at in ("start", "end")
        },
    }
    print(orjson.dumps(line).decode(), flush=True)
    if summary["ended"] != "done":
        raise JobStopped(
            Exit.GUARD,
            f"{summary['ended']} at step {summary['steps']} of {summary['out']}: "
            f"{summary['reason']}",
        )
    return Exit.DONE
