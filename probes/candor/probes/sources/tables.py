"""The objects of a file of rows, whatever kind of file it is, or of a data set on the Hub.

| kind | known by | needs |
| --- | --- | --- |
| JSONL: one object per line | its content | |
| JSON: an array of objects, or one object that holds one | its content | |
| CSV, TSV | the name: `.csv`, `.tsv` | |
| Parquet | its content | the extra `formats` |
| any but Parquet in gzip (`.gz`) | its content | |
| any but Parquet in Zstandard (`.zst`) | its content | the extra `formats` before Python 3.14 |
| a data set on the Hub | `hf:org/name:split` | the extra `formats` |

The content decides wherever it can, because people name JSONL `.json` and arrays `.jsonl`.
Tolerated alike in all of them: a byte order mark, CRLF, blank lines, a last line without a newline.

Arrow has no absent field: in rows of Parquet and of the Hub a field that is null is left out.

What the fields of an object mean is not decided here (`candor.jobs.formats`,
`candor.probes.fitting.data`).
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, time
from pathlib import Path
from typing import Any, BinaryIO, cast

from candor.probes import jsonl
from candor.probes.sources.hub import hub_rows, is_hub
from candor.probes.sources.optional import needs

GZIP, ZSTANDARD, PARQUET, ARROW = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1", b"ARROW1"
MAX_CELL = 2**31 - 1
"""Characters of a CSV cell. Python's own limit, 131,072, is less than some responses have."""
WRAPPER_FIELDS = ("data", "rows", "examples", "instances", "items", "records", "train")
"""Fields of a JSON object under which files keep their rows, the first that is there."""

Placed = tuple[str, dict[str, Any]]
"""Where an object stands (`file:line`, or `file: row 3`), and the object."""


def objects(source: Path) -> Iterator[Placed]:
    """Every object of a source, in order, with its place.

    Args:
        source: a file, or `hf:org/name:split`.

    Raises:
        ValueError: it is no file of rows, is damaged, or a row is not an object; the message names
            the file and what to do. A package that is missing is named with what to install.
        OSError: the file cannot be read.
    """
    if is_hub(source):
        for number, row in enumerate(hub_rows(source), start=1):
            place = f"{source}: row {number}"
            yield place, _as_json(_object(row, place))
        return
    try:
        with _opened(source) as file:
            yield from _objects(file, source)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{source}: the compressed file is damaged or cut off ({error})") from None


def _objects(file: BinaryIO, source: Path) -> Iterator[Placed]:
    start = file.read(8)
    file.seek(0)
    if start.startswith(PARQUET):
        yield from _parquet(file, source)
        return
    if start.startswith(ARROW):
        raise ValueError(
            f"{source} is an Arrow file; write its data set as Parquet: dataset.to_parquet(...)"
        )
    jsonl.refuse_other_forms(start, source)
    name = source.name.lower().removesuffix(".gz").removesuffix(".zst")
    if name.endswith((".csv", ".tsv")):
        yield from _csv(file, source)
    elif _is_document(file):
        yield from _document(file.read(), source)
    else:
        yield from _lines(file, source)


@contextmanager
def _opened(source: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked, and seekable."""
    if source.is_dir():
        raise ValueError(
            f"{source} is a folder; give one of its files (a data set that `datasets` saved: "
            "load_from_disk(...).to_parquet(...))"
        )
    with source.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        if start.startswith(GZIP):
            with gzip.open(file) as unpacked:
                yield cast(BinaryIO, unpacked)
        elif start == ZSTANDARD:
            yield io.BytesIO(_zstandard(file, source))
        else:
            yield file


def _zstandard(file: BinaryIO, source: Path) -> bytes:
    """The whole content: Python's reader can seek, pyarrow's cannot."""
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd

            return zstd.open(file).read()
        with needs(f"{source} is compressed (zstd)", "unpack it first"):
            from pyarrow import CompressedInputStream, PythonFile
        return bytes(CompressedInputStream(PythonFile(file, mode="r"), "zstd").read())
    except (OSError, ValueError) as error:
        if "candor-rewards" in str(error):
            raise
        raise ValueError(f"{source}: the compressed file is damaged or cut off ({error})") from None


def _lines(file: BinaryIO, source: Path) -> Iterator[Placed]:
    for number, line in enumerate(file, start=1):
        text = (line.removeprefix(jsonl.BOM) if number == 1 else line).strip()
        if not text:
            continue
        place = f"{source}:{number}"
        try:
            value = jsonl.parse(text)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        yield place, _object(value, place)


def _is_document(file: BinaryIO) -> bool:
    """Whether the file is one JSON text: it begins with an array, or all of it is one object that
    stands on several lines or holds the rows. A malformed first line does not make it one."""
    first = b""
    for number, line in enumerate(file):
        if first := (line.removeprefix(jsonl.BOM) if number == 0 else line).strip():
            break
    file.seek(0)
    if not first.startswith(b"{"):
        return first.startswith(b"[")
    if _parses(first):
        value = jsonl.parse(first)
        if _inside(value) is None and not _columns(value):
            return False
    whole = file.read().removeprefix(jsonl.BOM)
    file.seek(0)
    return _parses(whole)


def _parses(text: bytes) -> bool:
    try:
        jsonl.parse(text)
    except ValueError:
        return False
    return True


def _document(content: bytes, source: Path) -> Iterator[Placed]:
    try:
        value = jsonl.parse(content.removeprefix(jsonl.BOM))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    rows = value if isinstance(value, list) else _inside(value)
    if rows is None and isinstance(value, dict) and _columns(value):
        raise ValueError(
            f"{source} holds columns, not rows; with pandas write "
            'df.to_json(path, orient="records", lines=True)'
        )
    for number, row in enumerate([value] if rows is None else rows, start=1):
        place = f"{source}: row {number}"
        yield place, _object(row, place)


def _inside(value: Any) -> list[Any] | None:
    """The rows of an object that holds rows and perhaps facts about them; None where it is a row.
    The Hub's own API wraps each row once more."""
    if not isinstance(value, dict):
        return None
    for name in WRAPPER_FIELDS:
        found = value.get(name)
        if isinstance(found, list) and found and all(isinstance(row, dict) for row in found):
            return [
                row["row"] if isinstance(row.get("row"), dict) and "row_idx" in row else row
                for row in found
            ]
    return None


def _columns(value: dict[str, Any]) -> bool:
    """Whether every field is a column: an object with one entry per row."""
    parts = list(value.values())
    return bool(parts) and all(
        isinstance(part, dict) and part and all(name.isdigit() for name in part) for part in parts
    )


def _csv(file: BinaryIO, source: Path) -> Iterator[Placed]:
    csv.field_size_limit(MAX_CELL)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        header = text.readline()
        text.seek(0)
        table = csv.DictReader(text, delimiter=_delimiter(header), strict=True)
        if not header.strip() or len(set(table.fieldnames or ())) != len(table.fieldnames or ()):
            raise ValueError(f"{source}: the first line must name the columns, each once")
        for number, row in enumerate(table, start=1):
            place = f"{source}: row {number}"
            if None in row or None in row.values():
                raise ValueError(f"{place}: has another number of cells than the first line")
            yield place, {name: value for name, value in row.items() if value != ""}
    except UnicodeDecodeError:
        raise ValueError(f"{source} is not UTF-8; save it as 'CSV UTF-8'") from None
    except csv.Error as error:
        raise ValueError(f"{source}: not CSV: {error}; or write the rows as JSONL") from None
    finally:
        text.detach()


def _delimiter(header: str) -> str:
    """The separator of the cells: spreadsheets write `;` where the comma is the decimal mark."""
    return max(",;\t", key=header.count)


def _parquet(file: BinaryIO, source: Path) -> Iterator[Placed]:
    with needs(f"{source} is a Parquet file", "write its rows as JSONL"):
        from pyarrow import parquet
    try:
        table = parquet.ParquetFile(file)
        number = 0
        for batch in table.iter_batches(batch_size=1000):
            for row in batch.to_pylist():
                number += 1
                place = f"{source}: row {number}"
                yield place, _as_json(_object(row, place))
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        if str(error).startswith(str(source)):
            raise
        raise ValueError(f"{source}: not Parquet: {str(error).splitlines()[0]}") from None


def _as_json(value: Any) -> Any:
    """A value of Arrow as JSON has it: without null fields, dates as ISO texts, bytes by their
    number."""
    if isinstance(value, dict):
        return {name: _as_json(part) for name, part in value.items() if part is not None}
    if isinstance(value, list | tuple):
        return [_as_json(part) for part in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{place}: is {_kind(value)}, not an object with named fields")
    return value


def _kind(value: Any) -> str:
    names = {str: "a text", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
