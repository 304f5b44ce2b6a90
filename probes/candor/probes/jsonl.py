"""JSON texts that people and other programs write, and lines of JSON. Files of rows are read by
`candor.probes.sources.tables`.

Tolerated alike, wherever Candor reads: a byte order mark, CRLF, and what Python's `json` writes
beyond the standard: NaN and Infinity, and escapes of lone surrogates. NaN is read as NaN. Whoever
uses the number refuses it by name; in a column that nobody uses it does no harm.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson

BOM = b"\xef\xbb\xbf"
OTHER_FORMS = (
    (b"\xff\xfe", "is UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "is UTF-16; save it as UTF-8"),
    (b"{\x00", "is UTF-16; save it as UTF-8"),
    (b"\x00{", "is UTF-16; save it as UTF-8"),
    (b"\x1f\x8b", "is compressed (gzip); unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed (zstd); unpack it first"),
    (b"PK\x03\x04", "is a zip archive; unpack it first"),
    (b"PAR1", "is a Parquet file; write its rows as JSONL"),
)
"""What files begin with that are often given in place of JSON in UTF-8, and what to do."""


def parse(text: bytes) -> Any:
    """The value of one JSON text.

    Raises:
        ValueError: it is not JSON in UTF-8.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        try:
            return json.loads(text.decode())
        except RecursionError:
            raise ValueError("not JSON: nested too deeply") from None
        except ValueError:
            raise ValueError(f"not JSON: {error}") from None


def document(path: Path) -> Any:
    """The value of a file that is one JSON text.

    Raises:
        ValueError: it is not JSON in UTF-8.
        OSError: the file cannot be read.
    """
    content = path.read_bytes()
    refuse_other_forms(content, path)
    return parse(content.removeprefix(BOM))


def refuse_other_forms(content: bytes, path: Path) -> None:
    """Raises ValueError for a file of `OTHER_FORMS`."""
    for start, what in OTHER_FORMS:
        if content.startswith(start):
            raise ValueError(f"{path} {what}")


def line_of(value: Any, *, sort_keys: bool = False) -> bytes:
    """The value as JSON on one line, without a newline. Equal values give equal bytes.

    NaN and infinity become null; lone surrogates are escaped.

    Raises:
        TypeError: JSON cannot hold the value.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort_keys else None)
    except TypeError:  # a lone surrogate, or no JSON at all, which `json` refuses too
        plain = json.loads(json.dumps(value), parse_constant=lambda name: None)
        return json.dumps(plain, sort_keys=sort_keys, separators=(",", ":")).encode()
