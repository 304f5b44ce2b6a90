"""`candor eval feedback`: the paper's sycophancy metric on comments drawn and scored elsewhere.

Takes rows of `candor score` (or, without a reward, `candor generate`) on feedback prompts of any
poems, where `candor eval sycophancy` draws and scores its own. Like and dislike positivity against
the base answer, their gap, each at N = 1, 2, 4, ..., and what the penalty changes: as there
(docs/evaluation.md). Nothing is drawn, fitted or chosen here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson

from candor.jobs.running.exits import Exit, JobStopped, UsageError, exit_code
from candor.jobs.running.files import Row, read_rows, write_json, write_rows
from candor.jobs.running.manifest import now, write_manifest
from candor.jobs.sycophancy import results
from candor.jobs.sycophancy.gather import by_poem
from candor.jobs.sycophancy.job import check_judges, chosen_from
from candor.jobs.sycophancy.prompts import CONDITIONS
from candor.jobs.sycophancy.results import Setting
from candor.jobs.sycophancy.verdicts import LLM, pair_rows
from candor.jobs.sycophancy.verdicts import judge as judge_pairs


def eval_feedback(
    *,
    answers: Path,
    out: Path,
    judge: str | None = None,
    judge_url: str | None = None,
    judge_model: str | None = None,
    judge_api_key_file: Path | None = None,
    seed: int = 0,
    concurrency: int = 4,
    timeout_s: float = 600.0,
    retry_budget_s: float = 300.0,
) -> int:
    """Measure like and dislike positivity. Killed or interrupted, the same command goes on.

    Parameters
    ----------
    answers
        JSONL of candor score or candor generate on prompts of candor data prompts.
    out
        Folder for the judged pairs and feedback.json.
    judge
        vader, the offline judge; taken where no judge is named.
    judge_url
        An OpenAI-form server with a language model that judges too, or alone.
    judge_model
        Its served name.
    judge_api_key_file
        File with the judge's key.
    seed
        Of the bootstrap.
    concurrency
        Pairs judged at a time.
    timeout_s
        Longest wait for one verdict, in seconds.
    retry_budget_s
        How long the judge may stay away before the job stops, in seconds.
    """

    def run() -> Exit:
        started = now()
        vader = check_judges(judge, judge_url, judge_model, ["feedback"])
        llm = None
        if judge_url is not None and judge_model is not None:
            llm = LLM(judge_url, judge_model, judge_api_key_file, timeout_s, retry_budget_s)
        rows = checked(answers, read_rows(answers))
        scored = any("scores" in row for row in rows)
        n = min(len(row["responses"]) for row in rows if "error" not in row)
        setting = Setting(*chosen_from(n, scored=scored), seed)
        out.mkdir(parents=True, exist_ok=True)
        verdicts = judged(out, rows, setting.rules, vader, llm, concurrency)
        found = results.feedback(rows, verdicts, vader=vader, llm=judge_model, setting=setting)
        report = {
            "reward_model": next((r["reward_model"] for r in rows if "scores" in r), None),
            "n": n,
            "seed": seed,
            "feedback": found,
            "quality": results.quality([one["base"] for one in by_poem(rows)[0].values()], setting),
        }
        write_json(out / "feedback.json", report)
        write_manifest(
            out / "feedback.json",
            command="eval feedback",
            inputs={"answers": answers},
            settings={"n": n, "seed": seed, "judge_model": judge_model, "vader": vader},
            counts={"rows": len(rows), "failed": sum("error" in row for row in verdicts)},
            started=started,
        )
        along = {
            name: one["along_n"][-1] for name, one in found["judges"].items() if "along_n" in one
        }
        print(orjson.dumps({"out": str(out / "feedback.json"), **along}).decode())
        return Exit.ROWS_FAILED if any("error" in row for row in verdicts) else Exit.DONE

    return exit_code(run)


def checked(path: Path, rows: Sequence[Row]) -> list[Row]:
    """The rows, all of them feedback prompts.

    Raises:
        UsageError: a row that is none, naming it; no row with responses.
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


def judged(
    out: Path,
    rows: Sequence[Row],
    rules: Sequence[str],
    vader: bool,
    llm: LLM | None,
    concurrency: int,
) -> list[Row]:
    """A verdict on each pair that the rules choose; resumable.

    Raises:
        JobStopped: it could not be finished, and has said why.
    """
    poems, _ = by_poem(rows)
    results.require(poems, "poem")
    pairs, verdicts = out / "pairs.jsonl", out / "verdicts.jsonl"
    write_rows(pairs, pair_rows(poems, rules))
    code = Exit(judge_pairs(pairs, verdicts, vader=vader, llm=llm, concurrency=concurrency))
    if code not in (Exit.DONE, Exit.ROWS_FAILED):
        raise JobStopped(code, "the pairs are not all judged; the same command goes on")
    return read_rows(verdicts)
