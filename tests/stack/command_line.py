"""The `candor` command's own parser, to hold commands in files against."""

from __future__ import annotations

from typing import Any

import cyclopts
import pytest

from candor.__main__ import main


def command_line() -> cyclopts.App:
    """The command's own table of sub-commands, as `main` builds it, stopped before it runs."""
    built: list[cyclopts.App] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cyclopts.App, "__call__", lambda app: built.append(app))
        main()
    return built[0]


def parse(app: cyclopts.App, arguments: list[str]) -> dict[str, Any]:
    """The sub-command's arguments by name.

    Raises:
        CycloptsError: a flag it does not have, a value of the wrong type, a required one missing.
    """
    _, bound, _ = app.parse_args(arguments, print_error=False, exit_on_error=False)
    return bound.arguments
