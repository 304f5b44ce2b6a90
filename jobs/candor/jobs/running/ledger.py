"""The rows of one resumable job: written as they are finished, put in input order at the end.

    <out>.part   during the run: an append-only journal, one line per finished row; locked, so that
                 two runs cannot share it. Where a key has several lines, the last line counts.
    <out>.torn   the incomplete last line that a kill left, cut off the journal at the next start
    <out>        at the end: one line per input row, in input order, put in place as a whole

A row is done when it has no `error` and its `input_sha256` is the hash that this run expects. The
caller hashes everything that decides the result (input row, settings, the server's model), so rows
of another input or setting are done again and never mixed in. Every new run tries the rows with an
`error` again.

Measured under SIGKILL: no row was lost whose write() to an O_APPEND file had returned (with
buffered writes 1 in 100 was), and 11 % of the kills tore the last line. So a row counts once its
write() has returned, and a torn last line is normal; a malformed line in the middle is refused.
fsync protects against power loss, once per second and at the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from candor.jobs.running.exits import Exit, JobStopped
from candor.jobs.running.files import Row, parse_row, replacing, row_line, sync_directory
from candor.probes.jsonl import BOM

FSYNC_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a row's line is. Rows stay on disk, so a job's memory does not grow with its output."""

    handle: int
    offset: int
    length: int
    failed: bool


@dataclass(frozen=True, slots=True)
class Counts:
    num_done: int
    num_failed: int


class Ledger:
    """The journal of one job: `append` each row of `todo`, then `finish`. A context manager.

    Args:
        out: the output file; the journal lies beside it.
        wanted: `input_sha256` by key, in input order.

    Raises:
        JobStopped: (I/O) another run holds the journal, or a line is damaged in a way that no kill
            explains.
        OSError: a file cannot be opened.
    """

    def __init__(self, out: Path, wanted: Mapping[str, str]) -> None:
        self.out = out
        self.journal = out.with_name(out.name + ".part")
        self._wanted = wanted
        self._places: dict[str, _Place] = {}
        self._broken = False
        self._synced = time.monotonic()
        self._out_handle: int | None = None
        self.num_outdated = 0
        """Rows that an earlier run made from another input or with other settings."""
        out.parent.mkdir(parents=True, exist_ok=True)
        self._handle = self._lock()
        try:
            if out.exists():
                self._out_handle = os.open(out, os.O_RDONLY)
                self._read(out, self._out_handle)
            self._cut_torn_tail()
            self._size = self._read(self.journal, self._handle)
        except BaseException:
            self.close()
            raise

    @property
    def todo(self) -> list[str]:
        """Keys without a good row, in input order."""
        places = self._places
        return [key for key in self._wanted if key not in places or places[key].failed]

    @property
    def untried(self) -> list[str]:
        """Keys with neither a good nor a failed row."""
        return [key for key in self._wanted if key not in self._places]

    def append(self, row: Row) -> None:
        """Write one finished row; once this returns, a kill of the process cannot lose the row.

        Raises:
            JobStopped: (I/O) the disk is full or broken; the rows appended before are safe.
            TypeError: the row cannot be written as JSON.
        """
        key = row["key"]
        line = row_line({**row, "input_sha256": self._wanted[key]})
        if self._broken:  # the journal may end in a part of a line: nothing may follow it
            raise JobStopped(Exit.IO, f"{self.journal}: not written to after a failed write")
        try:
            _write_all(self._handle, line)
            if time.monotonic() - self._synced >= FSYNC_EVERY_S:
                os.fsync(self._handle)
                self._synced = time.monotonic()
        except OSError as error:
            self._broken = True
            raise self._io_stop(error, self.journal) from error
        self._places[key] = _Place(self._handle, self._size, len(line), "error" in row)
        self._size += len(line)

    def finish(self) -> Counts:
        """Write all rows to `out` in input order and remove the journal.

        Raises:
            JobStopped: (I/O) the disk failed; the journal stays, and the next run finishes.
            ValueError: a row is neither done nor failed.
        """
        if self.untried:
            raise ValueError(f"{len(self.untried)} rows are neither done nor failed")
        try:
            os.fsync(self._handle)
            with replacing(self.out) as file:
                for key in self._wanted:
                    place = self._places[key]
                    line = os.pread(place.handle, place.length, place.offset)
                    file.write(line.rstrip(b"\r\n") + b"\n")
            self.journal.unlink()
            sync_directory(self.out.parent)
        except OSError as error:
            raise self._io_stop(error, self.out) from error
        num_failed = sum(place.failed for place in self._places.values())
        return Counts(len(self._places) - num_failed, num_failed)

    def close(self) -> None:
        """Close and unlock the journal; its rows stay for the next run."""
        with contextlib.suppress(OSError):
            os.fsync(self._handle)
            journal = os.fstat(self._handle)
            if journal.st_nlink and not journal.st_size:
                self.journal.unlink()
        os.close(self._handle)
        if self._out_handle is not None:
            os.close(self._out_handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def _lock(self) -> int:
        while True:
            handle = os.open(self.journal, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                raise JobStopped(
                    Exit.IO,
                    f"{self.journal}: another run is writing it; wait for that run or stop it",
                ) from None
            if os.fstat(handle).st_nlink:
                return handle
            os.close(handle)  # the run that held the lock has finished and removed the file

    def _cut_torn_tail(self) -> None:
        data_end = os.fstat(self._handle).st_size
        tail = b""
        start = data_end
        while start and b"\n" not in tail:
            step = min(start, 1 << 16)
            start -= step
            tail = os.pread(self._handle, step, start) + tail
        torn = tail[tail.rfind(b"\n") + 1 :]
        if torn:
            with self.out.with_name(self.out.name + ".torn").open("ab") as file:
                file.write(torn + b"\n")
            os.ftruncate(self._handle, data_end - len(torn))

    def _read(self, path: Path, handle: int) -> int:
        """Note where each row of a file lies; returns the file's size in bytes."""
        offset = 0
        with open(handle, "rb", closefd=False) as file:
            file.seek(0)
            for number, line in enumerate(file, 1):
                if number == 1 and line.startswith(BOM):  # an editor's
                    offset, line = len(BOM), line.removeprefix(BOM)
                if not line.strip():
                    offset += len(line)
                    continue
                try:
                    row = parse_row(line, f"{path}:{number}")
                except ValueError as error:
                    raise JobStopped(
                        Exit.IO,
                        f"{error}. No Candor job leaves such a line: repair or move the file",
                    ) from None
                self._note(row, _Place(handle, offset, len(line), "error" in row))
                offset += len(line)
        return offset

    def _note(self, row: Row, place: _Place) -> None:
        if row["key"] not in self._wanted:
            return
        if row.get("input_sha256") == self._wanted[row["key"]]:
            self._places[row["key"]] = place
        else:
            self.num_outdated += 1

    def _io_stop(self, error: OSError, path: Path) -> JobStopped:
        return JobStopped(
            Exit.IO,
            f"{error.filename or path}: {error.strerror}. "
            f"{len(self._places)} rows are safe; free some space and run the same command again",
        )


def _write_all(handle: int, data: bytes) -> None:
    """Write all of `data`, as a rule by one write(); a full disk may first take only a part."""
    written = os.write(handle, data)
    while written < len(data):
        written += os.write(handle, data[written:])
