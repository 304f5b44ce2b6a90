"""Logging on stderr, also for the lines of uvicorn and other libraries: on a terminal a line that a
person reads, elsewhere one JSON object per line.

Texts (prompts, responses, keys) are never logged: callers pass counts, lengths and hashes. Control
characters are escaped in both forms, so a request cannot forge a line. Tracebacks have no local
variables, because the local variables of a request's path are its texts.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger


def configure(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send the lines of structlog and of `logging` to `stream` (default: stderr)."""
    stream = stream or sys.stderr
    terminal = stream.isatty()
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper("%H:%M:%S", utc=False)
        if terminal
        else structlog.processors.TimeStamper("iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        # Libraries' lines are %-formatted, and uvicorn adds a coloured copy of the message.
        foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(allow=())],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *(_for_people() if terminal else [structlog.processors.JSONRenderer()]),
        ],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _for_people() -> list[Processor]:
    """What makes a line for a terminal."""
    renderer = structlog.dev.ConsoleRenderer(
        colors="NO_COLOR" not in os.environ,
        pad_event_to=18,
        sort_keys=False,
        # The other formatters show local variables.
        exception_formatter=structlog.dev.plain_traceback,
    )
    return [_escaped, renderer]


def _escaped(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Leaves the logger's name out, and escapes what would end the line or move the cursor. A
    traceback keeps its lines."""
    return {
        name: _printable(value, kept="\n" if name == "exception" else "")
        if isinstance(value, str)
        else value
        for name, value in event.items()
        if name != "logger"
    }


def _printable(text: str, kept: str) -> str:
    return "".join(
        char if char.isprintable() or char in kept else char.encode("unicode_escape").decode()
        for char in text
    )


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module. Events are snake_case words, facts are keyword arguments."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
