"""An evaluation of the policy as it is now: draw, score, judge.

Responses and scores of every evaluation stay in a folder of their own, in the form of `candor
generate` and `candor score`, so that other commands can read them again (`candor eval feedback
--answers .../scored.jsonl` for poems). docs/rl.md says what each number means.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from candor.flags import UsageError
from candor.jobs.generator.groups import Sampling, draw, split_opening
from candor.jobs.grounded.judged import asked
from candor.jobs.rl.evaluation import feedback, grounded
from candor.jobs.rl.evaluation.divergence import divergences
from candor.jobs.running.exits import Exit, JobStopped
from candor.jobs.running.files import Row, read_input, read_rows, write_rows
from candor.jobs.sycophancy.feedback_job import checked
from candor.jobs.sycophancy.measure import estimate
from candor.jobs.sycophancy.prompts import feedback_prompt_rows
from candor.jobs.sycophancy.sets import poems

Score = Callable[[Path, Path], int]
"""`candor score` from a file of rollouts to a file of scored rows; returns the exit status."""
Kind = Literal["grounded", "feedback"]


def evaluation_rows(path: Path | None) -> list[Row]:
    """The prompts of the file, or prompts about the poems that come with Candor.

    Raises:
        JobStopped, UsageError: a row is neither a feedback prompt nor a grounded question.
    """
    if path is None:
        return feedback_prompt_rows(poems())
    rows = read_input(path)
    if kind_of(rows) == "feedback":
        return checked(path, rows)
    for row in rows:
        try:
            asked({**row, "messages": split_opening(row["messages"])[0]})
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path}: key {row['key']!r}: {error}") from None
    return rows


def kind_of(rows: Sequence[Row]) -> Kind:
    """`grounded` where the first row names a stance, else `feedback`."""
    meta = rows[0].get("meta") if rows else None
    return "grounded" if isinstance(meta, dict) and "stance" in meta else "feedback"


def numbers_told(kind: Kind) -> tuple[str, ...]:
    """The numbers that the last line of a run repeats, the headline first."""
    return grounded.NUMBERS if kind == "grounded" else feedback.NUMBERS


@dataclass(frozen=True)
class Evaluation:
    """The prompts of the evaluations, how responses are sampled, and what scores them.

    Attributes:
        rows: feedback prompts (no opinion, like, dislike) or grounded questions.
        how: has the same seed in each evaluation, so that only the policies differ.
        ends: the tokens that end a response, given the tokenizer.
        score: `candor score` with the run's full penalties.
        out: folder that gets one folder per evaluation.
    """

    rows: Sequence[Row]
    how: Sampling
    ends: Callable[[Any], frozenset[int]]
    score: Score
    out: Path

    @property
    def kind(self) -> Kind:
        return kind_of(self.rows)

    def measure(self, model: Any, tokenizer: Any, name: str) -> Row:
        """Sample, score and judge responses.

        Raises:
            JobStopped: the responses could not be scored, or no prompt is left.
        """
        folder = self.out / name
        folder.mkdir(parents=True, exist_ok=True)
        rollouts, scored = folder / "rollouts.jsonl", folder / "scored.jsonl"
        drawn = draw(model, tokenizer, self.rows, self.how, self.ends(tokenizer))
        write_rows(rollouts, drawn)
        with _own_signals():
            code = Exit(self.score(rollouts, scored))
        if code not in (Exit.DONE, Exit.ROWS_FAILED):
            raise JobStopped(code, "the evaluation was not scored; the same command continues")
        rows = read_rows(scored)
        kl = divergences(model, tokenizer, drawn, self.how.temperature)
        found = (
            grounded.numbers(scored, rows) if self.kind == "grounded" else feedback.numbers(rows)
        )
        return {"kl": None if kl is None else estimate(np.array(kl)).as_json(), **found}


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Put the run's signal handlers back afterwards: `candor score` replaces those of SIGINT and
    SIGTERM and leaves the defaults."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
