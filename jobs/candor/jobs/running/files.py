"""Reading rows and writing output files; the journal of a run is `ledger`.

An output file holds its old content or the whole new content, whatever happens in between.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from candor.flags import UsageError
from candor.jobs.formats.reader import ReadRows, read
from candor.jobs.running.exits import Exit, JobStopped
from candor.probes import jsonl
from candor.probes.sources.hub import is_hub

Row = dict[str, Any]
"""One line of JSONL: an object with a `key` that no other line has."""


def row_line(row: Row) -> bytes:
    """The row as one line of JSON, with its newline. Equal rows give equal bytes.

    Raises:
        TypeError: the row holds a value that JSON cannot carry.
    """
    return jsonl.line_of(row) + b"\n"


def sha256_of(value: Any) -> str:
    """SHA-256 (hex) of the value's JSON with sorted keys."""
    return hashlib.sha256(jsonl.line_of(value, sort_keys=True)).hexdigest()


def parse_row(line: bytes, where: str) -> Row:
    """One line of JSONL as a row; `where` is file:line, for the message.

    Raises:
        ValueError: the line is not a JSON object with a `key`.
    """
    try:
        row = jsonl.parse(line)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if not isinstance(row, dict) or not isinstance(row.get("key"), str) or not row["key"]:
        raise ValueError(f"{where}: not an object with a text under 'key'")
    try:
        row["key"].encode()
    except UnicodeEncodeError:
        raise ValueError(f"{where}: the text under 'key' has a lone surrogate") from None
    return row


def read_rows(path: Path) -> list[Row]:
    """All rows of a file or of a data set on the Hub, in Candor's form (`candor.jobs.formats`).

    Raises:
        UsageError: the source cannot be read or has no rows, no row is of a known form, or two rows
            have the same key.
        JobStopped: (unreachable) the Hub does not answer.
    """
    return _read(path).rows


def read_input(path: Path) -> list[Row]:
    """`read_rows`, and says on stderr how many rows there are and of which form."""
    found = _read(path)
    print(f"candor: {path}: {found.summary()}", file=sys.stderr)
    return found.rows


def _read(path: Path) -> ReadRows:
    try:
        return read(path)
    except ConnectionError as error:
        raise JobStopped(Exit.UNREACHABLE, str(error)) from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise UsageError(str(error)) from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that replaces `path`, durably, when the block ends without an exception."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(path.parent)


def sync_directory(folder: Path) -> None:
    """Make a rename or a deletion in `folder` survive a power loss."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    with replacing(path) as file:
        file.writelines(row_line(row) for row in rows)


def write_json(path: Path, value: Any) -> None:
    with replacing(path) as file:
        file.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def source_sha256(source: Path) -> str:
    """The hash of an input file; of a data set on the Hub that of its rows as JSON, in order."""
    if not is_hub(source):
        return file_sha256(source)
    total = hashlib.sha256()
    for row in read_rows(source):
        total.update(row_line(row))
    return total.hexdigest()


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
