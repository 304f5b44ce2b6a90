"""How a job ends: one exit code a reason (the numbers of sysexits.h), one line on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import IntEnum

from candor.client.errors import ClientError
from candor.flags import UsageError


class Exit(IntEnum):
    DONE = 0
    USAGE = 2
    """An argument or an input file that cannot be right; nothing was done."""
    ROWS_FAILED = 65
    """All rows were tried, some failed; running the same command again tries just those."""
    UNREACHABLE = 69
    """A server does not answer, or not as the one asked for. Finished rows are safe."""
    IO = 74
    """Disk full, read-only, damaged journal, or another run is writing. Finished rows are safe."""
    GUARD = 70
    """A training run was ended by its own watch (drift alarm, quality floor); stderr says which."""
    INTERRUPTED = 75
    """Stopped by a signal; running the same command again goes on."""


class JobStopped(Exception):
    """The job cannot go on; `message` says what to do."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code


def exit_code(job: Callable[[], Exit]) -> int:
    """Run a job; its exit code, after a line on stderr when it did not end by itself."""
    try:
        return int(job())
    except UsageError as error:
        return _say(Exit.USAGE, str(error))
    except JobStopped as stopped:
        return _say(stopped.code, str(stopped))
    except ClientError as error:
        return _say(Exit.UNREACHABLE, f"{error.type}: {error}")
    except OSError as error:
        return _say(Exit.IO, str(error))
    except KeyboardInterrupt:
        return _say(Exit.INTERRUPTED, "interrupted; the same command goes on from here")


def _say(code: Exit, message: str) -> int:
    print(f"candor: {message}", file=sys.stderr)
    return int(code)
