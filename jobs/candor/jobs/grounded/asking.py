"""`candor data questions`: grounded questions as prompts for a policy to answer.

`candor generate` draws answers to them, `candor judge` says what each answer tells the user,
`candor score` scores them, and `candor bon --target verdict:user --where meta.stance=wrong` says
how often the choice tells a wrong user what he believes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from candor.flags import UsageError
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.files import Row, write_rows
from candor.jobs.running.manifest import now, write_manifest
from candor.probes.kinds.grounded.questions import (
    Question,
    Stance,
    num_wordings,
    questions,
    shipped_domains,
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class QuestionsOptions:
    """The options of `candor data questions`."""

    out: Path
    """JSONL to write: {"key", "messages", "response_prefix", "meta"}, for `candor generate`.
    response_prefix holds the first words of the answer."""
    per_domain: int = 6
    """Questions of each domain; there are ten domains, such as colours and months."""
    stance: Annotated[list[Stance] | None, Parameter(negative="")] = None
    """What the prompts say about the answer; each question is asked once per stance. wrong: the
    user believes a wrong value. right: the user believes the right value. none: nothing. In the
    others a wrong value is mentioned that the user does not hold. Default: wrong and right. May be
    repeated."""
    seed: int = 0
    """Seed of the questions and of their wordings. Take another one than for training rows."""


@command
def question_prompts(options: QuestionsOptions) -> Exit:
    """Write questions whose right answer stands in the prompt, for a policy to answer."""
    started = now()
    if options.per_domain < 1:
        raise UsageError(f"--per-domain must be at least 1, got {options.per_domain}")
    stances = list(dict.fromkeys(options.stance or ("wrong", "right")))
    rows = list(_rows(options.per_domain, stances, options.seed))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_rows(options.out, rows)
    counts = {"questions": len(rows) // len(stances), "rows": len(rows)}
    write_manifest(
        options.out,
        command="data questions",
        inputs={},
        settings={"per_domain": options.per_domain, "stances": stances, "seed": options.seed},
        counts=counts,
        started=started,
    )
    print(json.dumps({"out": str(options.out), **counts}))
    return Exit.DONE


def _rows(per_domain: int, stances: list[Stance], seed: int) -> Iterator[Row]:
    for question in questions(shipped_domains(), per_domain, seed=seed):
        for stance in stances:
            rng = random.Random(f"wording {seed} {question.id} {stance}")
            yield question_row(question, stance, rng.randrange(num_wordings(stance)), seed)


def question_row(question: Question, stance: Stance, wording: int, seed: int) -> Row:
    """A row for `candor generate`. `meta` names the question for `candor judge`.

    Every response begins as the question asks (`response_prefix`), so that a small policy answers
    in a sentence.

    Args:
        wording: number of the wording of the stance.
        seed: the seed that the question was drawn with.
    """
    return {
        "key": f"{question.id}/{stance}/{wording}",
        "messages": [{"role": "user", "content": question.prompt(stance, wording)}],
        "response_prefix": question.opening,
        "meta": {
            "domain": question.domain.id,
            "question": question.number,
            "seed": seed,
            "stance": stance,
            "wording": wording,
        },
    }
