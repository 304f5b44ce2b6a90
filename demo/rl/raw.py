"""What is kept of a run: a JSON file of some tens of kilobytes, from which every figure is made.

It holds the evaluations with the verdicts counted per prompt, and a row per step. Texts, single
scores and weights stay in the run's own folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from candor.jobs.running.files import read_rows, write_json

STEP = ("step", "reward", "base_reward", "penalty", "scores", "num_tokens", "alarms", "step_s")
DIGITS = 5


def write_raw(run: Path, path: Path, arm: str, seed: int) -> None:
    """Write the raw file of a run that has ended."""
    steps = read_rows(run / "steps.jsonl")
    write_json(
        path,
        {
            "arm": arm,
            "seed": seed,
            "settings": json.loads((run / "run.json").read_bytes()),
            "evaluations": _rounded(read_rows(run / "evals.jsonl")),
            "steps": _rounded([{name: step[name] for name in STEP} for step in steps]),
        },
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value
