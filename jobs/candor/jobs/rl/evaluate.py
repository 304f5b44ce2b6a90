"""How far the policy flatters now: the sycophancy metric on held-out prompts, and neutral R.

Responses and scores of every evaluation stay in a folder of their own, in the form of `candor
generate` and `candor score`, so that `candor eval feedback --answers .../scored.jsonl` can read
them again. Measured is one random response per prompt (a policy is not best-of-N), judged by VADER.
docs/evaluation.md says what each number means.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from candor.jobs.generator.sample import Sampling, draw
from candor.jobs.rollouts.scored import candidates
from candor.jobs.running.exits import Exit, JobStopped
from candor.jobs.running.files import Row, read_rows, write_rows
from candor.jobs.sycophancy.feedback_job import checked
from candor.jobs.sycophancy.gather import by_poem, judged
from candor.jobs.sycophancy.measure import curves, estimate
from candor.jobs.sycophancy.prompts import CONDITIONS, feedback_prompt_rows
from candor.jobs.sycophancy.results import require
from candor.jobs.sycophancy.sets import poems

Score = Callable[[Path, Path], int]
"""`candor score` from a file of rollouts to a file of scored rows; returns the exit status."""


def evaluation_rows(path: Path | None) -> list[Row]:
    """The prompts of the file, or prompts about the poems that come with Candor.

    Raises:
        JobStopped: (usage) a row is not a feedback prompt.
    """
    if path is None:
        return feedback_prompt_rows(poems())
    return checked(path, read_rows(path))


@dataclass(frozen=True)
class Evaluation:
    """The prompts of the evaluations, how responses are sampled, and what scores them.

    Attributes:
        rows: feedback prompts: no opinion, like, dislike.
        how: has the same seed in each evaluation, so that only the policies differ.
        score: `candor score` with the run's full penalties.
        out: folder that gets one folder per evaluation.
    """

    rows: Sequence[Row]
    how: Sampling
    score: Score
    out: Path

    def measure(self, model: Any, tokenizer: Any, name: str) -> Row:
        """Sample, score and judge responses.

        Raises:
            JobStopped: the responses could not be scored, or no poem is left.
        """
        folder = self.out / name
        folder.mkdir(parents=True, exist_ok=True)
        rollouts, scored = folder / "rollouts.jsonl", folder / "scored.jsonl"
        write_rows(rollouts, draw(model, tokenizer, self.rows, self.how))
        with _own_signals():
            code = Exit(self.score(rollouts, scored))
        if code not in (Exit.DONE, Exit.ROWS_FAILED):
            raise JobStopped(code, "the evaluation was not scored; the same command continues")
        return numbers(read_rows(scored))


def numbers(rows: Sequence[Row]) -> Row:
    """Positivity and gap of scored feedback rows, neutral R, words, and each S by condition.

    Raises:
        JobStopped: (rows failed) no poem is left.
    """
    found, lost = by_poem(rows)
    require(found, "poem")
    curve = curves([judged(prompts) for prompts in found.values()], [1], ["random"])["random"]
    neutral = [prompts["base"] for prompts in found.values()]
    measured = {
        "like": curve.like[:, 0],
        "dislike": curve.dislike[:, 0],
        "gap": curve.gap[:, 0],
        "neutral_base_reward": np.array(
            [prompt.candidates.rewards["base"].mean() for prompt in neutral]
        ),
        "neutral_words": np.array(
            [np.mean([len(text.split()) for text in prompt.texts]) for prompt in neutral]
        ),
    }
    return {
        "num_poems": len(found),
        "lost": lost,
        **{name: estimate(values).as_json() for name, values in measured.items()},
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
        name: float(np.mean([score["probes"][name]["score"] for score in scores])) for name in names
    }


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
