"""`candor eval feedback`: the paper's sycophancy metric on comments sampled and scored elsewhere.

The input is rows of `candor score` (or, without a reward, of `candor generate`) on feedback prompts
about any poems; `candor eval sycophancy` samples and scores comments on poems of its own. The
numbers are the same (docs/evaluation.md): like and dislike positivity against the base answer and
their gap, each at N = 1, 2, 4, ..., and what the penalty changes. Nothing is sampled, fitted or
chosen here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

import orjson
from cyclopts import Parameter

from candor.flags import UsageError
from candor.jobs.rollouts.scored import candidates, number_at
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.files import Row, read_input, write_json
from candor.jobs.running.manifest import now, write_manifest
from candor.jobs.sycophancy import results
from candor.jobs.sycophancy.gather import by_part, by_poem
from candor.jobs.sycophancy.job import chosen_from
from candor.jobs.sycophancy.prompts import CONDITIONS
from candor.jobs.sycophancy.results import Setting
from candor.jobs.sycophancy.stages import StageStopped, judged_pairs
from candor.jobs.sycophancy.verdicts import JudgeOptions


@Parameter(name="*")
@dataclass(frozen=True)
class EvalFeedbackOptions:
    """The options of `candor eval feedback`."""

    answers: Path
    """JSONL of `candor score` or `candor generate` on prompts of `candor data prompts`."""
    _: KW_ONLY
    out: Path
    """Folder to write: the judged pairs and feedback.json."""
    judges: JudgeOptions = field(default_factory=JudgeOptions)
    concurrency: int = 4
    """Pairs that are judged at the same time."""
    timeout_s: float = 600.0
    """Longest wait for one verdict, in seconds."""
    retry_budget_s: float = 300.0
    """How long the judge may be unreachable before the job stops, in seconds."""


@command
def eval_feedback(options: EvalFeedbackOptions) -> Exit:
    """Measure like and dislike positivity. After a kill or an interrupt, the same command
    continues."""
    started = now()
    judges = options.judges.judges(["feedback"], options.timeout_s, options.retry_budget_s)
    rows = checked(options.answers, read_input(options.answers))
    for row in rows:
        if "error" not in row:
            check_answers(options.answers, row)
    scored = any("scores" in row for row in rows)
    n = min(len(row["responses"]) for row in rows if "error" not in row)
    setting = Setting(*chosen_from(n, scored=scored))
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    try:
        verdicts = judged_pairs(out, rows, setting.rules, judges, options.concurrency)
    except StageStopped as stopped:
        return stopped.code
    found = results.feedback(rows, verdicts, judges, setting)
    report: dict[str, Any] = {
        "reward_model": next((r["reward_model"] for r in rows if "scores" in r), None),
        "n": n,
        "feedback": found,
        "quality": results.quality("base", by_part(by_poem(rows)[0]), setting),
    }
    write_json(out / "feedback.json", report)
    num_failed = sum("error" in row for row in verdicts)
    write_manifest(
        out / "feedback.json",
        command="eval feedback",
        inputs={"answers": options.answers},
        settings={
            "n": n,
            "judge_model": options.judges.judge_model,
            "vader": judges.vader,
        },
        counts={"rows": len(rows), "failed": num_failed},
        started=started,
    )
    largest_n = {
        name: judge["along_n"][-1] for name, judge in found["judges"].items() if "along_n" in judge
    }
    print(orjson.dumps({"out": str(out / "feedback.json"), **largest_n}).decode())
    return Exit.ROWS_FAILED if num_failed else Exit.DONE


def checked(path: Path, rows: Sequence[Row]) -> list[Row]:
    """The rows, all of them on feedback prompts.

    Raises:
        UsageError: a row is not on a feedback prompt (the message names it), or no row has
            responses.
    """
    for row in rows:
        meta = row.get("meta")
        if (
            not isinstance(meta, dict)
            or "poem" not in meta
            or meta.get("condition") not in CONDITIONS
        ):
            raise UsageError(
                f"{path}: key {row['key']!r}: meta must hold a poem and a condition, one of "
                f"{', '.join(CONDITIONS)} (candor data prompts writes such rows)"
            )
    if all("error" in row for row in rows):
        raise UsageError(f"{path}: no row has responses")
    return list(rows)


def check_answers(path: Path, row: Row) -> None:
    """Raises UsageError where the responses of a row, or their scores, are not what `candor score`
    or `candor generate` writes; the message names row and field."""
    responses = row.get("responses")
    if not isinstance(responses, list) or not responses:
        raise UsageError(f"{path}: key {row['key']!r} has no responses; sample it again")
    for index, response in enumerate(responses):
        if not isinstance(response, dict) or not isinstance(response.get("text"), str):
            raise UsageError(f"{path}: key {row['key']!r}: responses[{index}] has no 'text'")
    if "scores" not in row:
        return
    try:
        for index in candidates(row):
            number_at(row, index, "base_reward")
            number_at(row, index, "reward")
        if len(row["scores"]) != len(responses):
            raise ValueError(f"{len(row['scores'])} scores of {len(responses)} responses")
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: key {row['key']!r}: {error}; score the row again") from None
