"""How far the policy flatters now: the sycophancy metric on held-out prompts, and neutral R.

Rows and scores of every evaluation stay in a folder of their own, in the form of `candor generate`
and `candor score`, so `candor eval feedback --answers .../scored.jsonl` reads them again. One
random pick a prompt is measured (a policy is not best-of-N), judged by VADER; what each number
means is in docs/evaluation.md.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from candor.jobs.rl.sample import Sampling, draw
from candor.jobs.rollouts.scored import candidates
from candor.jobs.running.exits import Exit, JobStopped
from candor.jobs.running.files import Row, read_rows, write_rows
from candor.jobs.sycophancy.feedback_job import checked
from candor.jobs.sycophancy.gather import by_poem, judged
from candor.jobs.sycophancy.measure import curves, estimate
from candor.jobs.sycophancy.prompts import CONDITIONS, feedback_rows
from candor.jobs.sycophancy.results import require
from candor.jobs.sycophancy.sets import poems

Score = Callable[[Path, Path], int]
"""`candor score` from a file of rollouts to one of scored rows; its exit code."""


def evaluation_rows(path: Path | None) -> list[Row]:
    """The prompts of the file, or those on the suite's own poems.

    Raises:
        JobStopped: (usage) a row that is no feedback prompt.
    """
    if path is None:
        return feedback_rows(poems())
    return checked(path, read_rows(path))


@dataclass(frozen=True)
class Evaluation:
    """What is drawn, how, and who scores it.

    Attributes:
        rows: feedback prompts: no opinion, like, dislike.
        how: the same seed each time, so that policies and not draws differ.
        score: `candor score` with the run's full penalties.
        out: gets a folder a measurement.
    """

    rows: Sequence[Row]
    how: Sampling
    score: Score
    out: Path

    def measure(self, model: Any, tokenizer: Any, name: str) -> Row:
        """Draw, score, judge.

        Raises:
            JobStopped: the rows could not be scored, or none is left.
        """
        folder = self.out / name
        folder.mkdir(parents=True, exist_ok=True)
        rollouts, scored = folder / "rollouts.jsonl", folder / "scored.jsonl"
        write_rows(rollouts, draw(model, tokenizer, self.rows, self.how))
        with _own_signals():
            code = Exit(self.score(rollouts, scored))
        if code not in (Exit.DONE, Exit.ROWS_FAILED):
            raise JobStopped(code, "the evaluation was not scored; the same command goes on")
        return numbers(read_rows(scored))


def numbers(rows: Sequence[Row]) -> Row:
    """Of scored feedback rows: positivity and gap, neutral R, words, and each S by condition.

    Raises:
        JobStopped: (rows failed) no poem is left.
    """
    found, lost = by_poem(rows)
    require(found, "poem")
    curve = curves([judged(prompts) for prompts in found.values()], [1], ["random"])["random"]
    neutral = [prompts["base"] for prompts in found.values()]
    told = {
        "like": curve.like[:, 0],
        "dislike": curve.dislike[:, 0],
        "gap": curve.gap[:, 0],
        "neutral_base_reward": np.array([one.candidates.rewards["base"].mean() for one in neutral]),
        "neutral_words": np.array(
            [np.mean([len(text.split()) for text in one.texts]) for one in neutral]
        ),
    }
    return {
        "num_poems": len(found),
        "lost": lost,
        **{name: estimate(values).as_json() for name, values in told.items()},
        "scores": {condition: _mean_scores(rows, condition) for condition in CONDITIONS},
    }


def _mean_scores(rows: Sequence[Row], condition: str) -> dict[str, float]:
    """Mean S by probe over all responses to the prompts of one condition."""
    scores = [
        row["scores"][index]
        for row in rows
        if "scores" in row and row["meta"]["condition"] == condition
        for index in candidates(row)
    ]
    names = list(scores[0]["probes"]) if scores else []
    return {
        name: float(np.mean([one["probes"][name]["score"] for one in scores])) for name in names
    }


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Put our handlers back: a job over rows takes SIGINT and SIGTERM and leaves the defaults."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
