"""Log lines: for people on a terminal, JSON elsewhere, and forged by nobody in both."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from candor import logs

FORGED = 'a\nb"\x1b[31m\u2028'


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _kept() -> Iterator[None]:
    """The handlers as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.basicConfig(handlers=handlers, level=level, force=True)


def written(stream: io.StringIO) -> list[str]:
    """What three lines look like in `stream`."""
    logs.configure("INFO", stream)
    logs.get("candor.test").info("model_loaded", model="org/name", reason=FORGED)
    logging.getLogger("another.library").info("Started on %s", FORGED)
    try:
        raise ValueError(FORGED)
    except ValueError:
        logs.get("candor.test").exception("request_failed", route="/x")
    return stream.getvalue().split("\n")


def test_on_a_terminal_a_line_is_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    lines = written(Terminal())
    assert " [info     ] model_loaded " in lines[0]
    assert "model=org/name" in lines[0]
    assert "candor.test" not in lines[0]
    assert lines[1].split("] ")[1].startswith("Started on a\\nb")
    assert lines[2].rstrip().endswith("request_failed     route=/x")
    assert lines[3] == "Traceback (most recent call last):"
    assert not {"\x1b", "\u2028"} & {*"".join(lines)}


def test_elsewhere_a_line_is_json() -> None:
    stream = io.StringIO()
    first, second, third, end = written(stream)
    assert json.loads(first)["reason"] == FORGED
    assert json.loads(second)["logger"] == "another.library"
    assert json.loads(third)["exception"].startswith("Traceback")
    assert end == ""
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_has_colours_unless_they_are_not_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in written(Terminal())[0]
