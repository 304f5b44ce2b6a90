"""`candor data convert`: rows of any form as Candor's rows, TRL's preference rows, or requests of
OpenAI's batch API.

A batch goes out and comes back with two calls:

    candor data convert --rows prompts.csv --to openai-batch --model NAME --out requests.jsonl
    candor data convert --rows prompts.csv --answers answers.jsonl --out rollouts.jsonl

The answers of a batch name their request and do not hold its prompt, so the second call reads the
same prompts again, and puts each answer to its prompt by the key.
"""

from __future__ import annotations

import json
import sys
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

from cyclopts import Parameter

from candor.flags import UsageError
from candor.jobs.formats.turns import Row, UnreadableRow
from candor.jobs.formats.writers import batch_request_row, preference_rows, with_answers
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.files import read_input, write_rows
from candor.jobs.running.manifest import now, write_manifest
from candor.jobs.running.rows import check_paths
from candor.probes.sources.tables import objects


@Parameter(name="*")
@dataclass(frozen=True)
class ConvertOptions:
    """The options of `candor data convert`."""

    rows: Path
    """Rows in any form that Candor reads (docs/formats.md): a file or hf:org/name:split."""
    _: KW_ONLY
    out: Path
    """JSONL to write."""
    to: Literal["candor", "trl-preference", "openai-batch"] = "candor"
    """candor: {"key", "messages", "responses"}. trl-preference: TRL's {"prompt", "chosen",
    "rejected"}, a row per chosen and rejected response. openai-batch: a request of
    /v1/chat/completions per prompt."""
    model: str | None = None
    """With --to openai-batch: the model to ask."""
    n: int = 1
    """With --to openai-batch: responses per prompt."""
    answers: Path | None = None
    """With --to candor: the output file of a batch, whose answers become the rows' responses."""


@command
def convert_rows(options: ConvertOptions) -> Exit:
    """Write rows of one form in another."""
    started = now()
    check_paths(options.rows, options.out)
    if (options.model is None) == (options.to == "openai-batch"):
        raise UsageError("--model goes with --to openai-batch, which needs it")
    if options.n < 1 or (options.n != 1 and options.to != "openai-batch"):
        raise UsageError("--n is at least 1 and goes with --to openai-batch")
    if options.answers is not None and options.to != "candor":
        raise UsageError("--answers goes with --to candor")
    rows = read_input(options.rows)
    made, failed = converted(rows, options)
    if not made:
        raise UsageError(f"{options.rows}: no row can be written: {failed[0]}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_rows(options.out, made)
    counts = {"rows": len(rows), "written": len(made), "failed": len(failed)}
    write_manifest(
        options.out,
        command="data convert",
        inputs={"rows": options.rows}
        | ({} if options.answers is None else {"answers": options.answers}),
        settings={"to": options.to, "model": options.model, "n": options.n},
        counts=counts,
        started=started,
    )
    if failed:
        print(f"candor: {len(failed)} rows failed, the first: {failed[0]}", file=sys.stderr)
    print(json.dumps({"out": str(options.out), **counts}))
    return Exit.ROWS_FAILED if failed else Exit.DONE


def converted(rows: list[Row], options: ConvertOptions) -> tuple[list[Row], list[str]]:
    """The rows to write, and the reason of each row that failed. Candor's own form keeps failed
    rows, with their error; the forms of others have no place for them.

    Raises:
        UsageError: the answers cannot be read.
    """
    if options.answers is not None:
        rows = with_answers(rows, read_answers(options.answers))
    failed = [
        f"key {row['key']!r}: {row['error'].get('message')}" for row in rows if "error" in row
    ]
    if options.to == "candor":
        return (rows if len(failed) < len(rows) else []), failed
    made: list[Row] = []
    for row in rows:
        if "error" in row:
            continue
        try:
            if options.to == "trl-preference":
                made += preference_rows(row)
            else:
                made.append(batch_request_row(row, {"model": options.model, "n": options.n}))
        except UnreadableRow as error:
            failed.append(f"key {row['key']!r}: {error}")
    return made, failed


def read_answers(path: Path) -> dict[str, Row]:
    """The lines of a batch's output file by `custom_id`.

    Raises:
        UsageError: the file cannot be read, or a line is no answer.
    """
    found: dict[str, Row] = {}
    try:
        for place, answer in objects(path):
            if not isinstance(answer.get("custom_id"), str) or "response" not in answer:
                raise ValueError(f"{place}: has no 'custom_id' and 'response'; is this the output?")
            found[answer["custom_id"]] = answer
    except OSError as error:
        raise UsageError(f"--answers {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise UsageError(f"--answers {error}") from None
    return found
