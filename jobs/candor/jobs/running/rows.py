"""A job over rows: several rows at a time, every result into the ledger, an orderly stop.

A failure that the row caused makes a failed row: the input row with an `error`, never a number. A
failure that the server caused stops the job; the rows in flight are dropped, and the next run does
them again.

The first SIGINT or SIGTERM starts no new rows and finishes the rows in flight. The second ends the
job at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from candor.client.errors import ClientError, InvalidReply, PermanentError
from candor.flags import UsageError
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import Row, file_sha256, sha256_of
from candor.jobs.running.ledger import Ledger
from candor.jobs.running.manifest import manifest_path, now, write_manifest
from candor.jobs.running.progress import progress

Work = Callable[[Row], Awaitable[Row]]
"""Returns the fields to add to a row, such as `{"responses": ...}` or `{"scores": ...}`."""

ROW_STATUSES = frozenset({400, 413, 422, 500})
"""HTTP statuses that a row can cause. With 401, 404 and others every row would fail."""


@dataclass(frozen=True, slots=True)
class Job:
    """The rows to work on, and what the manifest says about the run."""

    command: str
    source: Path
    """The input file."""
    rows: list[Row]
    """The rows of `source`."""
    out: Path
    settings: dict[str, Any]
    """Every option that decides the result."""
    server: dict[str, Any]
    """The server's description of its models, which decides the result too."""
    concurrency: int
    notes: dict[str, Any] = field(default_factory=dict)
    """Facts for the manifest that do not decide the result, such as addresses."""


class RowFailed(Exception):
    """The row itself is at fault; no server could work on it."""

    def __init__(self, type: str, message: str) -> None:
        super().__init__(message)
        self.type = type


def check_paths(source: Path, out: Path) -> None:
    """Raises UsageError when the output would replace the input, or is a folder."""
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder; give a file")
    if out.resolve() == source.resolve():
        raise UsageError(f"--out {out}: is the input file; give another")


async def run_job(job: Job, work: Work) -> Exit:
    """Begin or resume: work on the rows that are not done, then write the output and its manifest.

    A run that does not change the output keeps the manifest of the run that made the output.
    """
    started = now()
    wanted = {
        row["key"]: sha256_of([job.command, row, job.settings, job.server]) for row in job.rows
    }
    with Ledger(job.out, wanted) as ledger:
        if ledger.num_outdated:
            _say(f"{ledger.num_outdated} rows of another input, setting or model are done again")
        todo = set(ledger.todo)
        rows = [row for row in job.rows if row["key"] in todo]
        if not await run_rows(ledger, rows, work, job.command, concurrency=job.concurrency):
            _say(f"interrupted, {len(ledger.todo)} rows left; the same command continues from here")
            return Exit.INTERRUPTED
        before = file_sha256(job.out) if job.out.exists() else None
        counts = ledger.finish()
        done_and_failed = {"done": counts.num_done, "failed": counts.num_failed}
        if before != file_sha256(job.out) or not manifest_path(job.out).exists():
            write_manifest(
                job.out,
                command=job.command,
                inputs={"rows": job.source},
                settings={**job.settings, **job.notes},
                server=job.server,
                counts={"rows": len(job.rows), **done_and_failed},
                started=started,
            )
    summary = {"out": str(job.out), **done_and_failed, "new": len(rows)}
    print(orjson.dumps(summary).decode())
    if failed := counts.num_failed:
        _say(f"{failed} rows failed (see their 'error'); the same command tries them again")
    return Exit.ROWS_FAILED if failed else Exit.DONE


async def run_rows(
    ledger: Ledger, rows: Iterable[Row], work: Work, what: str, *, concurrency: int
) -> bool:
    """Work on `rows`, at most `concurrency` at a time; returns whether all rows were tried.

    Args:
        what: the command, for the lines that say how far it is.

    Raises:
        ClientError: the server stopped answering, or its answers are wrong.
        JobStopped: (I/O) the ledger could not be written.
    """
    todo = list(rows)
    waiting = iter(todo)
    stopping = asyncio.Event()
    failed: list[Row] = []

    async def worker() -> None:
        while not stopping.is_set() and (row := next(waiting, None)) is not None:
            finished = await _finished(row, work)
            ledger.append(finished)
            bar.update()
            if "error" in finished:
                failed.append(finished)
                if len(failed) == 1:  # a fault of every row is seen at once
                    error = finished["error"]
                    _say(f"key {row['key']!r} failed, {error['type']}: {error['message']}")

    with progress(len(todo), what, "row") as bar, _stop_on_signal(stopping):
        workers = [asyncio.create_task(worker()) for _ in range(max(1, concurrency))]
        try:
            await asyncio.gather(*workers)
        finally:
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
    return next(waiting, None) is None


async def _finished(row: Row, work: Work) -> Row:
    """The row with the fields that `work` adds, or with its `error`."""
    try:
        added = await work(row)
        return {name: value for name, value in row.items() if name != "error"} | added
    except (RowFailed, ClientError) as error:
        if not _is_of_row(error):
            raise
        return {**row, "error": {"type": error.type, "message": str(error)}}


def _is_of_row(error: RowFailed | ClientError) -> bool:
    if isinstance(error, PermanentError):
        return error.status in ROW_STATUSES and error.type != "unknown_probe"
    return isinstance(error, RowFailed | InvalidReply)


@contextlib.contextmanager
def _stop_on_signal(stopping: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    caught = (signal.SIGINT, signal.SIGTERM)

    def stop() -> None:
        stopping.set()
        for number in caught:
            loop.remove_signal_handler(number)  # the next signal ends the job at once
        _say("finishing the rows in flight; a second signal ends the job at once")

    for number in caught:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)


def _say(message: str) -> None:
    print(f"candor: {message}", file=sys.stderr)
