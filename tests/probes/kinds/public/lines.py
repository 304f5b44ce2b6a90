"""Lines in the published formats of the public sets, and what the tests of their loaders share.

The texts are written for the tests; the fields are those that the loaders' modules cite.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT


def real(name: str) -> Path:
    """A public file outside the repository; the test is skipped where it is missing."""
    path = ROOT.parent / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"the public text is not at {path}")
    return path


def jsonl(path: Path, *lines: Any) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def without(line: dict[str, Any], *keys: str) -> dict[str, Any]:
    if len(keys) == 1:
        return {name: value for name, value in line.items() if name != keys[0]}
    return line | {keys[0]: without(line[keys[0]], *keys[1:])}


def assert_line_refused(
    path: Path, load: Callable[[Path], object], good: dict[str, Any], bad: Any, named: str
) -> None:
    """A file of one good line loads; with a bad line after it, the error names that line."""
    jsonl(path, good)
    load(path)
    jsonl(path, good, bad)
    with pytest.raises(ValueError, match=rf"^{path}:2: {named}"):
        load(path)


def assert_file_refused(
    path: Path, load: Callable[[Path], object], text: str, message: str
) -> None:
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
