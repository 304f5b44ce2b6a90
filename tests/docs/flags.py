"""The flags of commands that pages print, against the commands' own."""

from __future__ import annotations

import re

from candor.cli.known import find_command

OF_EVERY_COMMAND = {"--help", "--config", "--version"}


def unknown_flags(line: str) -> set[str]:
    """Flags of a line that begins with a command, and that no command in it takes."""
    words = line.split()
    calls = [place for place, word in enumerate(words) if re.fullmatch(r"\S*\bcandor", word)]
    found = [find_command(words[place + 1 :]) for place in calls]
    known = {
        flag for command in found if command for option in command.options for flag in option.flags
    }
    given = set(re.findall(r"(?<=\s)--[a-z][\w-]*", line))
    return given - known - OF_EVERY_COMMAND if any(found) else set()
