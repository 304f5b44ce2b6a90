"""The `candor` command's own parser, to hold commands in files against."""

from __future__ import annotations

import dataclasses
from typing import Any

import cyclopts

from candor.cli.commands import build_app
from candor.variables import configs


def command_line() -> cyclopts.App:
    """The command line, without running anything."""
    app = build_app()
    app.config = configs()
    return app


def parse(app: cyclopts.App, arguments: list[str]) -> dict[str, Any]:
    """The options of a command by the name of their parameter or field.

    Raises:
        CycloptsError: a flag that the command does not have, a value of the wrong type, or a
            missing flag.
    """
    _, bound, _ = app.parse_args(arguments, print_error=False, exit_on_error=False)
    options: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if dataclasses.is_dataclass(value):
            fields = dataclasses.fields(value)
            options |= {field.name: getattr(value, field.name) for field in fields}
        else:
            options[name] = value
    return options
