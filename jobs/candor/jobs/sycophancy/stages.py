"""The stages of a run over one folder, each a resumable job: answers, second turn, verdicts.

    DIR/prompts.jsonl -> rollouts.jsonl -> scored.jsonl     `candor generate`, `candor score`
    DIR/second/...                                          the same after "Are you sure?"
    DIR/pairs.jsonl   -> verdicts.jsonl                     chosen comments, judged

A stage whose rows failed goes on with the others; one that could not be finished ends the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from candor.jobs.running.exits import Exit
from candor.jobs.running.files import Row, read_rows, write_rows
from candor.jobs.sycophancy.gather import answers, by_poem
from candor.jobs.sycophancy.prompts import doubted, feedback_rows, question_rows
from candor.jobs.sycophancy.sets import Poem, Question
from candor.jobs.sycophancy.verdicts import LLM, judge, pair_rows


class Ended(Exception):
    """A stage could not be finished, and has said why on stderr."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = Exit(code)


@dataclass(frozen=True)
class Rows:
    """What a run's files hold in the end."""

    first: list[Row]
    """Feedback and questions: with responses and, where there is a reward server, scores."""
    second: list[Row]
    """The plain questions' second turn."""
    verdicts: list[Row]
    any_failed: bool


@dataclass(frozen=True)
class Stages:
    """What is asked of whom.

    Args:
        draw: `candor generate` from a file of prompts to one of rollouts; its exit code.
        rate: `candor score` from rollouts to scored rows; None without a reward server.
        rules: how answers are chosen, for the pairs that are judged.
        vader, llm: the judges.
    """

    draw: Callable[[Path, Path], int]
    rate: Callable[[Path, Path], int] | None
    rules: Sequence[str]
    vader: bool
    llm: LLM | None
    concurrency: int

    def run(
        self, out: Path, poems: Sequence[Poem], questions: Sequence[Question], tasks: Sequence[str]
    ) -> Rows:
        """Do what is not done yet.

        Raises:
            Ended: a server stays away, a signal, a full disk, a flag that a stage refuses.
            JobStopped: a file that cannot be read.
        """
        codes: list[int] = []
        prompts = feedback_rows(poems) if "feedback" in tasks else []
        if "agreement" in tasks:
            prompts += question_rows(questions, ("plain", "wrong", "right"))
        elif "are-you-sure" in tasks:
            prompts += question_rows(questions, ("plain",))
        first = self._answered(out, prompts, codes)
        second: list[Row] = []
        if "are-you-sure" in tasks:
            second = self._answered(out / "second", second_turn(first), codes)
        verdicts = self._judged(out, first, codes) if "feedback" in tasks else []
        return Rows(first, second, verdicts, Exit.ROWS_FAILED in codes)

    def _answered(self, folder: Path, rows: list[Row], codes: list[int]) -> list[Row]:
        if not rows:
            return []
        folder.mkdir(parents=True, exist_ok=True)
        prompts, rollouts = folder / "prompts.jsonl", folder / "rollouts.jsonl"
        write_rows(prompts, rows)
        codes.append(_goes_on(self.draw(prompts, rollouts)))
        if self.rate is None:
            return read_rows(rollouts)
        scored = folder / "scored.jsonl"
        codes.append(_goes_on(self.rate(rollouts, scored)))
        return read_rows(scored)

    def _judged(self, out: Path, first: Sequence[Row], codes: list[int]) -> list[Row]:
        poems, _ = by_poem(first)
        rows = pair_rows(poems, self.rules)
        if not rows:
            return []
        pairs, verdicts = out / "pairs.jsonl", out / "verdicts.jsonl"
        write_rows(pairs, rows)
        code = judge(pairs, verdicts, vader=self.vader, llm=self.llm, concurrency=self.concurrency)
        codes.append(_goes_on(code))
        return read_rows(verdicts)


def second_turn(first: Sequence[Row]) -> list[Row]:
    """Every plain question that was answered, its first candidate doubted: a random pick.

    One answer for every rule, so that what differs between rules is what doubt makes of it.
    """
    return [
        doubted(row, drawn.texts[0])
        for row in first
        if row["meta"].get("suggestion") == "plain" and (drawn := answers(row)) is not None
    ]


def _goes_on(code: int) -> int:
    if code not in (Exit.DONE, Exit.ROWS_FAILED):
        raise Ended(code)
    return code
