"""`--help`: made of `options.json`, so that it answers at once and imports no command."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import TextIO

from candor.cli.known import (
    KnownCommand,
    KnownOption,
    find_command,
    known_commands,
    subcommands,
)
from candor.version import VERSION

HELP_FLAGS = ("--help", "-h")
ABOUT = "A reward server that takes flattery out of the reward: R - lambda * S."
MAX_WIDTH = 100
INDENT = "  "
FLAG_COLUMN = 26
"""Columns of a flag that has its help on the same line."""


class Heading(str):
    """A line that a terminal shows bold."""

    __slots__ = ()


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether a command line is a question: no command, a group alone, or `--help` anywhere."""
    before_values = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if not arguments or any(flag in before_values for flag in HELP_FLAGS):
        return True
    return len(arguments) == 1 and bool(subcommands(arguments[0]))


def help_text(arguments: Sequence[str], *, width: int = 80, bold: bool = False) -> str | None:
    """The help that a command line asks for; None if it names no command."""
    words = [word for word in arguments if not word.startswith("-")]
    command = find_command(words)
    if command is not None:
        lines = command_lines(command, width)
    elif not words:
        lines = overview_lines(known_commands(), width)
    elif found := subcommands(words[0]):
        lines = overview_lines(found, width)
    else:
        return None
    return "\n".join(
        f"\x1b[1m{line}\x1b[0m" if bold and isinstance(line, Heading) else line for line in lines
    )


def print_help(arguments: Sequence[str], stream: TextIO | None = None) -> bool:
    """Prints the help that a command line asks for; False if it names no command."""
    stream = stream or sys.stdout
    terminal = stream.isatty()
    width = min(shutil.get_terminal_size().columns, MAX_WIDTH) if terminal else 80
    text = help_text(arguments, width=width, bold=terminal and not os.environ.get("NO_COLOR"))
    if text is not None:
        print(text, file=stream)
    return text is not None


def overview_lines(commands: Sequence[KnownCommand], width: int) -> Iterator[str]:
    """The list of commands, by section, in the order of need."""
    whole = len(commands) == len(known_commands())
    group = "" if whole else f" {commands[0].name.partition(' ')[0]}"
    yield f"Usage: candor{group} COMMAND [options]"
    if whole:
        yield from ("", f"{ABOUT} Version {VERSION}.")
    column = max(len(command.name) for command in commands) + 2
    for section in dict.fromkeys(command.section for command in commands):
        yield from ("", Heading(section))
        for command in commands:
            if command.section == section:
                yield from _entry(command.name, command.help, column, width)
    yield from ("", f"candor{group} COMMAND --help shows a command's options and an example.")
    if whole:
        yield "Begin with: candor serve MODEL. Documentation: README.md, docs/."


def command_lines(command: KnownCommand, width: int) -> Iterator[str]:
    """One command: usage, example, options by group, and where else to look."""
    needed = [
        f"{option.flags[0]} {option.value}"
        for option in command.options
        if option.required and option.place is None
    ]
    usage = " ".join([f"candor {command.name}", *command.places, *needed])
    yield from textwrap.wrap(
        f"Usage: {usage} [options]", width, subsequent_indent=" " * 7, break_on_hyphens=False
    )
    yield from ("", command.help, "", Heading("Example"))
    yield from textwrap.wrap(
        command.example_line(),
        width,
        initial_indent=INDENT,
        subsequent_indent=INDENT * 3,
        break_on_hyphens=False,
        break_long_words=False,
    )
    for group in dict.fromkeys(option.group for option in command.options):
        yield from ("", Heading(group))
        for option in command.options:
            if option.group == group:
                yield from _entry(_names(option), _meaning(option), FLAG_COLUMN, width)
    yield ""
    if command.options:
        flag = command.options[-1].flags[0]
        prefix = f"CANDOR_{command.name.upper().replace(' ', '_')}_"
        yield from textwrap.wrap(
            f"Each option may also stand in a YAML file, --config FILE.yaml, or in the "
            f"environment: {flag} is {prefix}{flag[2:].upper().replace('-', '_')}. A flag comes "
            "before the environment, and the environment before the file.",
            width,
            break_on_hyphens=False,
        )
    yield f"More: {command.page}, docs/options.md"


def _names(option: KnownOption) -> str:
    words = [*([option.place] if option.place else []), *option.flags]
    return f"{', '.join(words)} {option.value}".rstrip()


def _meaning(option: KnownOption) -> str:
    text = option.help.replace("`", "")
    if option.choices:
        text += f" One of: {', '.join(option.choices)}."
    if option.required:
        text += " Required."
    elif option.default is not None:
        text += f" Default: {option.default}."
    return text


def _entry(name: str, meaning: str, column: int, width: int) -> Iterator[str]:
    """A name and its meaning: side by side, or below each other where the name is long."""
    margin = " " * (len(INDENT) + column)
    lines = textwrap.wrap(
        meaning,
        max(width, 60),
        initial_indent=margin,
        subsequent_indent=margin,
        break_on_hyphens=False,
    )
    if len(name) + 2 > column:
        yield INDENT + name
        yield from lines
    else:
        first = lines[0][len(margin) :] if lines else ""
        yield f"{INDENT}{name:<{column}}{first}".rstrip()
        yield from lines[1:]
