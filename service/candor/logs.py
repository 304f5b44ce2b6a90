"""Logging: one JSON object a line on stderr, uvicorn's and the libraries' lines in the same form.

Texts (prompts, responses, keys) are never logged: call sites pass counts, lengths and hashes.
Control characters are escaped by JSON, so a request cannot forge a line. Tracebacks are plain
strings without local variables, because the locals of a request path are the texts.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.types import Processor

_SHARED: list[Processor] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]


def configure(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send everything, structlog's and stdlib's, to `stream` (default stderr) as JSON lines."""
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        # Lines of libraries are %-formatted and carry uvicorn's coloured copy of the message.
        foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder(allow=())],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module; events are snake_case words, facts are keywords."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
