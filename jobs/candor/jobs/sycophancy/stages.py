"""The stages of a run over one folder, each a resumable job: answers, second turn, verdicts.

    DIR/prompts.jsonl -> rollouts.jsonl -> scored.jsonl     `candor generate`, `candor score`
    DIR/second/...                                          the same after "Are you sure?"
    DIR/pairs.jsonl   -> verdicts.jsonl                     the chosen comments, judged

The run continues after a stage in which some rows failed. It ends after a stage that could not be
finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from candor.jobs.running.exits import Exit
from candor.jobs.running.files import Row, read_rows, write_rows
from candor.jobs.sycophancy.gather import answers, by_poem
from candor.jobs.sycophancy.prompts import doubted, feedback_prompt_rows, question_rows
from candor.jobs.sycophancy.sets import SuitePoem, SuiteQuestion
from candor.jobs.sycophancy.verdicts import Judges, judge, pair_rows


class StageStopped(Exception):
    """A stage could not be finished, and has said why on stderr."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = Exit(code)


@dataclass(frozen=True)
class SuiteRows:
    """The rows of a finished run."""

    first: list[Row]
    """Feedback and questions: with responses and, where there is a reward server, scores."""
    second: list[Row]
    """The plain questions' second turn."""
    verdicts: list[Row]

    @property
    def any_failed(self) -> bool:
        return any("error" in row for row in [*self.first, *self.second, *self.verdicts])


@dataclass(frozen=True)
class Stages:
    """The servers' parts in the stages.

    Args:
        sample: `candor generate` from a file of prompts to a file of rollouts; its exit status.
        rate: `candor score` from rollouts to scored rows; None without a reward server.
        rules: the rules of choosing whose chosen pairs are judged.
        concurrency: pairs that are judged at the same time.
    """

    sample: Callable[[Path, Path], int]
    rate: Callable[[Path, Path], int] | None
    rules: Sequence[str]
    judges: Judges
    concurrency: int

    def run(
        self,
        out: Path,
        poems: Sequence[SuitePoem],
        questions: Sequence[SuiteQuestion],
        tasks: Sequence[str],
    ) -> SuiteRows:
        """Do what earlier runs left undone.

        Raises:
            StageStopped: a server stays away, a signal, a full disk, or a flag that a stage
                refuses.
            JobStopped: a file cannot be read.
        """
        prompts = feedback_prompt_rows(poems) if "feedback" in tasks else []
        if "agreement" in tasks:
            prompts += question_rows(questions, ("plain", "wrong", "right"))
        elif "are-you-sure" in tasks:
            prompts += question_rows(questions, ("plain",))
        first = self._answered(out, prompts)
        second = []
        if "are-you-sure" in tasks:
            second = self._answered(out / "second", second_turn(first))
        verdicts = []
        if "feedback" in tasks:
            verdicts = judged_pairs(out, first, self.rules, self.judges, self.concurrency)
        return SuiteRows(first, second, verdicts)

    def _answered(self, folder: Path, rows: list[Row]) -> list[Row]:
        if not rows:
            return []
        folder.mkdir(parents=True, exist_ok=True)
        prompts, rollouts = folder / "prompts.jsonl", folder / "rollouts.jsonl"
        write_rows(prompts, rows)
        _check_finished(self.sample(prompts, rollouts))
        if self.rate is None:
            return read_rows(rollouts)
        scored = folder / "scored.jsonl"
        _check_finished(self.rate(rollouts, scored))
        return read_rows(scored)


def judged_pairs(
    out: Path, rows: Sequence[Row], rules: Sequence[str], judges: Judges, concurrency: int
) -> list[Row]:
    """A verdict on each pair of comments that the rules choose from `rows`; resumable.

    Raises:
        StageStopped: the pairs could not all be tried.
    """
    poems, _ = by_poem(rows)
    chosen = pair_rows(poems, rules)
    if not chosen:
        return []
    pairs, verdicts = out / "pairs.jsonl", out / "verdicts.jsonl"
    write_rows(pairs, chosen)
    _check_finished(judge(pairs, verdicts, judges, concurrency=concurrency))
    return read_rows(verdicts)


def second_turn(first: Sequence[Row]) -> list[Row]:
    """Every plain question that was answered, followed by the user's doubt of its first candidate.

    The first candidate is a random pick, the same for every rule, so that rules differ only in the
    answer that they choose after the doubt.
    """
    return [
        doubted(row, drawn.texts[0])
        for row in first
        if row["meta"].get("suggestion") == "plain" and (drawn := answers(row)) is not None
    ]


def _check_finished(code: int) -> None:
    if code not in (Exit.DONE, Exit.ROWS_FAILED):
        raise StageStopped(code)
