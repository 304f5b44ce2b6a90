"""How a job ends: one exit status per reason (the numbers of sysexits.h), one line on stderr."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import ParamSpec

from candor.client.errors import ClientError
from candor.flags import UsageError as UsageError

P = ParamSpec("P")


class Exit(IntEnum):
    """The exit statuses of every job."""

    DONE = 0
    USAGE = 2
    """A flag or an input file is wrong; nothing was done."""
    ROWS_FAILED = 65
    """All rows were tried and some failed; the same command tries the failed rows again."""
    UNREACHABLE = 69
    """A server does not answer, or is not the server that was named. Finished rows are safe."""
    IO = 74
    """Disk full, read-only, damaged journal, or another run is writing. Finished rows are safe."""
    GUARD = 70
    """A guard of a training run ended it (drift alarm, quality floor); stderr names the guard."""
    INTERRUPTED = 75
    """Stopped by a signal; the same command continues where this run stopped."""


class JobStopped(Exception):
    """The job cannot go on; the message says what to do. A wrong flag or file is a `UsageError`."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code


def command(job: Callable[P, Exit]) -> Callable[P, int]:
    """A job as a command: the same arguments, and `exit_code`'s handling of how it ends."""

    @functools.wraps(job)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        return exit_code(lambda: job(*args, **kwargs))

    return run


def exit_code(job: Callable[[], Exit]) -> int:
    """Run a job and return its exit status; a job that was stopped says why in a line on stderr."""
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
        return _say(Exit.INTERRUPTED, "interrupted; the same command continues from here")


def _say(code: Exit, message: str) -> int:
    print(f"candor: {message}", file=sys.stderr)
    return int(code)
