"""What `options.json` says: every command and its options, without importing a command.

`candor.cli.reference` writes that file from the commands themselves, and a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

OPTIONS_FILE = Path(__file__).with_name("options.json")


class KnownOption(NamedTuple):
    """One option of a command.

    Attributes:
        flags: its names, such as ["--probe"]; a yes-or-no option may have its `--no-...` here.
        place: its name as an argument without a flag, such as MODEL; None if it needs its flag.
        value: word for the value, such as PATH; empty if it takes none.
        repeat: whether it may be given several times.
        choices: all values that it takes; empty if it takes others.
        required: whether the command cannot run without it.
        default: the value that it has if it is not given, as text; None if there is none to show.
        group: heading in the help.
        variables: names of its environment variables.
        help: its meaning.
    """

    flags: Sequence[str]
    place: str | None
    value: str
    repeat: bool
    choices: Sequence[str]
    required: bool
    default: str | None
    group: str
    variables: Sequence[str]
    help: str


class KnownCommand(NamedTuple):
    """One command: the fields of `candor.cli.commands.Command` that help shows, and its options."""

    name: str
    section: str
    extra: str
    help: str
    example: str
    page: str
    options: Sequence[KnownOption]

    @property
    def places(self) -> list[str]:
        """The arguments without a flag, as usage lines write them."""
        return [
            f"{option.place}..." if option.repeat else option.place
            for option in self.options
            if option.place is not None
        ]

    def example_line(self) -> str:
        """The example as it is typed."""
        return f"candor {self.name} {self.example}".strip()


@cache
def known_commands() -> tuple[KnownCommand, ...]:
    """Every command, in the order of the help."""
    rows: list[dict[str, Any]] = json.loads(OPTIONS_FILE.read_text(encoding="utf-8"))
    return tuple(
        KnownCommand(**row | {"options": [KnownOption(**option) for option in row["options"]]})
        for row in rows
    )


def find_command(arguments: Sequence[str]) -> KnownCommand | None:
    """The command that the arguments begin with."""
    for length in (2, 1):
        name = " ".join(arguments[:length])
        for command in known_commands():
            if command.name == name:
                return command
    return None


def subcommands(group: str) -> list[KnownCommand]:
    """The commands of a group such as `probe`; empty for another word."""
    return [command for command in known_commands() if command.name.startswith(f"{group} ")]
