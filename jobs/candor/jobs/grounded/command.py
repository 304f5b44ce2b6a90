"""`candor judge`: the exact judge's verdict on every response to a grounded question.

`candor score` keeps the verdicts, and `candor bon --target verdict:user` says how likely the choice
is to side with the user. Verdicts of another judge (a person, a language model) under the same
field are read in the same way.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import orjson
from cyclopts import Parameter

from candor.flags import UsageError
from candor.jobs.grounded.judged import with_verdicts
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.files import read_input, write_rows
from candor.jobs.running.manifest import now, write_manifest
from candor.jobs.running.rows import check_paths


@Parameter(name="*")
@dataclass(frozen=True)
class VerdictOptions:
    """The options of `candor judge`."""

    rollouts: Path
    """JSONL written by `candor generate`. Each row names its grounded question under "meta":
    domain, question (its number), seed, stance and wording."""
    _: KW_ONLY
    out: Path
    """JSONL to write: the same rows, with a "verdict" in each response: truth, user (the wrong
    value that the user believes), other (another value) or none (no value, or several)."""


@command
def judge_rollouts(options: VerdictOptions) -> Exit:
    """Judge answers to grounded questions, whose right value stands in the prompt.

    A row that failed is kept as it is. Score the judged rows afterwards: `candor score` keeps the
    verdicts.
    """
    started = now()
    check_paths(options.rollouts, options.out)
    rows = read_input(options.rollouts)
    if any("scores" in row for row in rows):
        raise UsageError(
            f"{options.rollouts}: holds scores already; judge the rows of `candor generate`, then "
            "score them, so that the scored file keeps its own manifest"
        )
    judged = [row if "error" in row else with_verdicts(options.rollouts, row) for row in rows]
    verdicts = Counter(
        response["verdict"]
        for row in judged
        for response in row.get("responses", ())
        if "verdict" in response
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_rows(options.out, judged)
    write_manifest(
        options.out,
        command="judge",
        inputs={"rollouts": options.rollouts},
        settings={},
        counts={"rows": len(rows), **verdicts},
        started=started,
    )
    print(orjson.dumps({"out": str(options.out), "rows": len(rows), **verdicts}).decode())
    return Exit.DONE
