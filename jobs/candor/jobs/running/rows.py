"""A job over rows: some at a time, every result into the ledger, stopped in an orderly way.

What fails because of the row becomes a failed row: the input with an `error`, never a number. What
fails because of the server stops the job; rows in flight are dropped and done again by the next
run.

SIGINT or SIGTERM once: no new rows, those in flight are finished. A second time: leave at once.
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
from candor.jobs.running.exits import Exit, UsageError
from candor.jobs.running.files import Row, file_sha256, sha256_of
from candor.jobs.running.ledger import Ledger
from candor.jobs.running.manifest import manifest_path, now, write_manifest

Work = Callable[[Row], Awaitable[Row]]
"""What a row gains: `{"responses": ...}` or `{"scores": ...}`."""

ROW_STATUSES = frozenset({400, 413, 422, 500})
"""Statuses that blame the request. 401, 404 and the like blame the set-up: every row would fail."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is run, and what its manifest says of it."""

    command: str
    source: Path
    """The input file, `rows` as read from it."""
    rows: list[Row]
    out: Path
    settings: dict[str, Any]
    """Every option that decides the result."""
    server: dict[str, Any]
    """What the server says of its models: decides the result too."""
    concurrency: int
    notes: dict[str, Any] = field(default_factory=dict)
    """For the manifest only: addresses and the like."""


class RowFailed(Exception):
    """This row cannot be worked on, whatever the server does."""

    def __init__(self, type: str, message: str) -> None:
        super().__init__(message)
        self.type = type


def check_paths(source: Path, out: Path) -> None:
    """Raises UsageError when the output would take the input's place."""
    if out.resolve() == source.resolve():
        raise UsageError(f"{out}: is the input; give another --out")


def read_api_key(path: Path | None) -> str | None:
    """The key in a file (never on the command line, where every process can see it).

    Raises:
        UsageError: no such file, or nothing in it.
    """
    if path is None:
        return None
    try:
        key = path.read_text().strip()
    except OSError as error:
        raise UsageError(f"--api-key-file {path}: {error.strerror}") from None
    if not key:
        raise UsageError(f"--api-key-file {path}: is empty")
    return key


async def run_job(job: Job, work: Work) -> Exit:
    """Resume or begin, work on what is not done, and when all is there write output and manifest.

    A run that leaves the output as it was leaves the manifest of the run that made it.
    """
    started = now()
    wanted = {
        row["key"]: sha256_of([job.command, row, job.settings, job.server]) for row in job.rows
    }
    with Ledger(job.out, wanted) as ledger:
        if ledger.num_outdated:
            _say(f"{ledger.num_outdated} rows of another input, setting or model are done anew")
        todo = set(ledger.todo)
        rows = [row for row in job.rows if row["key"] in todo]
        if not await run_rows(ledger, rows, work, concurrency=job.concurrency):
            _say(f"interrupted, {len(ledger.todo)} rows left; the same command goes on from here")
            return Exit.INTERRUPTED
        before = file_sha256(job.out) if job.out.exists() else None
        counts = ledger.finish()
        if before != file_sha256(job.out) or not manifest_path(job.out).exists():
            write_manifest(
                job.out,
                command=job.command,
                inputs={"rows": job.source},
                settings={**job.settings, **job.notes},
                server=job.server,
                counts={"rows": len(job.rows), "done": counts.done, "failed": counts.failed},
                started=started,
            )
    summary = {"out": str(job.out), "done": counts.done, "failed": counts.failed, "new": len(rows)}
    print(orjson.dumps(summary).decode())
    if counts.failed:
        _say(f"{counts.failed} rows failed (see their 'error'); the same command tries them again")
    return Exit.ROWS_FAILED if counts.failed else Exit.DONE


async def run_rows(ledger: Ledger, rows: Iterable[Row], work: Work, *, concurrency: int) -> bool:
    """Work on `rows`, at most `concurrency` at a time; whether all were tried.

    Raises:
        ClientError: the server stopped answering, or answers wrongly.
        JobStopped: (I/O) from the ledger.
    """
    todo = list(rows)
    waiting = iter(todo)
    stopping = asyncio.Event()

    async def worker() -> None:
        while not stopping.is_set() and (row := next(waiting, None)) is not None:
            ledger.append(await _result(row, work))
            progress.update()

    with _progress(len(todo)) as progress, _stop_on_signal(stopping):
        workers = [asyncio.create_task(worker()) for _ in range(max(1, concurrency))]
        try:
            await asyncio.gather(*workers)
        finally:
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
    return next(waiting, None) is None


async def _result(row: Row, work: Work) -> Row:
    """The finished row: with what it gained, or with its `error`."""
    try:
        gained = await work(row)
        return {name: value for name, value in row.items() if name != "error"} | gained
    except (RowFailed, ClientError) as error:
        if not _blames_row(error):
            raise
        return {**row, "error": {"type": error.type, "message": str(error)}}


def _blames_row(error: RowFailed | ClientError) -> bool:
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
            loop.remove_signal_handler(number)  # the next one leaves at once
        _say("finishing the rows in flight; once more to leave at once")

    for number in caught:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)


def _progress(num_rows: int) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=num_rows, unit="row", file=sys.stderr, disable=None
    )  # None: only on a terminal


def _say(message: str) -> None:
    print(f"candor: {message}", file=sys.stderr)
