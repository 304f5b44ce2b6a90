"""Writes `options.json` and docs/options.md from the commands themselves: `make options`.

    python -m candor.cli.reference docs/options.md

It imports every command, so it needs everything that the extra `lab` installs. A test compares both
files with what is written here.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from candor.cli.commands import COMMANDS, Command, build_app
from candor.cli.known import OPTIONS_FILE, KnownCommand, KnownOption
from candor.variables import variable_of

if TYPE_CHECKING:
    from cyclopts import App
    from cyclopts.argument import Argument

UNNAMED_GROUP = "Parameters"
"""cyclopts' name for the group of an option that was given none."""
MAIN, STRENGTH, SERVER, MODEL, OTHER = (
    "Input and output",
    "Penalty",
    "Servers",
    "Model",
    "Options",
)
SHARED_GROUPS = {
    "--out": MAIN,
    **dict.fromkeys(("--penalty", "--kappa", "--lambda-sweep", "--kappa-sweep"), STRENGTH),
    "--closed-form": STRENGTH,
    **dict.fromkeys(("--device", "--dtype", "--engine", "--template-date"), MODEL),
    **dict.fromkeys(("--concurrency", "--timeout-s", "--retry-budget-s"), SERVER),
}
"""Groups of options that several commands have, where the command names none."""
SERVER_ENDINGS = ("-url", "-key-file", "generator-model", "judge-model")
ORDER = (MAIN, SERVER, STRENGTH, OTHER, MODEL)

HEAD_FILE = Path(__file__).with_name("options_head.md")


def read_commands() -> list[KnownCommand]:
    """Every command with its options, from the command line that runs."""
    app = build_app()
    return [_read(app, command) for command in COMMANDS]


def _read(app: App, command: Command) -> KnownCommand:
    found = app
    for word in command.name.split():
        found = found[word]
    ordered = [
        _option(command.name, argument)
        for argument in found.assemble_argument_collection(parse_docstring=True)
        if argument.parse and argument.show and argument.name != "*"
    ]
    ordered.sort(key=lambda pair: pair[0])
    return KnownCommand(
        name=command.name,
        section=command.section,
        extra=command.extra,
        help=command.help,
        example=command.example,
        page=command.page,
        options=[option for _, option in ordered],
    )


def _option(command: str, argument: Argument) -> tuple[tuple[int, str], KnownOption]:
    """The option, and its group's place in the help."""
    flags = [name for name in argument.names if name.startswith("-")]
    place = None
    if argument.field_info.kind is not inspect.Parameter.KEYWORD_ONLY:
        place = flags[0].lstrip("-").upper().replace("-", "_")
    takes_value, repeat = argument.token_count()
    shared = argument.parameter.env_var or ()
    place_of_group, group = _group(argument, flags[0], place)
    option = KnownOption(
        flags=flags,
        place=place,
        value=_value(argument) if takes_value else "",
        repeat=repeat,
        choices=tuple(argument.get_choices() or ()),
        required=argument.required,
        default=_default(argument),
        group=group,
        variables=(*shared, variable_of(command, flags[0])),
        help=" ".join(str(argument.parameter.help or "").split()),
    )
    return (place_of_group, group), option


def _value(argument: Argument) -> str:
    """The word for an option's value."""
    if argument.get_choices():
        return "CHOICE"
    text = str(argument.hint)
    for name, word in (("Path", "PATH"), ("float", "NUMBER"), ("int", "N"), ("date", "DATE")):
        if name in text and "Mapping" not in text:
            return word
    return "TEXT"


def _default(argument: Argument) -> str | None:
    default = argument.field_info.default
    if default is None or default is False or default is inspect.Parameter.empty:
        return None
    if default in ("", ()):
        return None
    if argument.parameter.show_default is False or isinstance(default, dict | list):
        return None
    if default is True:
        return "yes"
    return f"{default:g}" if isinstance(default, float) else str(default)


def _group(argument: Argument, flag: str, place: str | None) -> tuple[int, str]:
    """The heading of an option, and where it stands."""
    own: Any = argument.parameter.group
    if own and own[0].name != UNNAMED_GROUP:
        return int(own[0].sort_key), str(own[0].name)
    if place is not None:
        name = MAIN
    elif flag in SHARED_GROUPS:
        name = SHARED_GROUPS[flag]
    elif flag.endswith(SERVER_ENDINGS):
        name = SERVER
    else:
        name = MAIN if argument.required else OTHER
    return ORDER.index(name), name


def options_json(commands: Sequence[KnownCommand]) -> str:
    """The text of `options.json`: a line per option."""
    rows = []
    for command in commands:
        fields: dict[str, Any] = command._asdict() | {"options": ["HERE"]}
        lines = ",\n  ".join(_json(option._asdict()) for option in command.options)
        rows.append(_json(fields).replace('"HERE"', f"\n  {lines}" if lines else ""))
    return "[\n" + ",\n".join(rows) + "\n]\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def options_page(commands: Sequence[KnownCommand]) -> str:
    """The text of docs/options.md."""
    lines = [line for command in commands for line in _section(command)]
    return "\n".join([HEAD_FILE.read_text("utf-8"), *lines])


def _section(command: KnownCommand) -> Iterator[str]:
    yield f"## candor {command.name}\n"
    page = command.page.removeprefix("docs/")
    target = page if command.page.startswith("docs/") else f"../{page}"
    yield f"{command.help} More: [{page}]({target}). Needs `candor-rewards[{command.extra}]`."
    yield f"Example: `{command.example_line()}`\n"
    if not command.options:
        return
    yield "| option | default | environment variable | meaning |"
    yield "| --- | --- | --- | --- |"
    for option in command.options:
        flags = ", ".join(f"`{flag}`" for flag in option.flags)
        value = f" {option.value}" if option.value else ""
        place = f"`{option.place}` or " if option.place else ""
        default = "required" if option.required else f"`{option.default}`" if option.default else ""
        choices = ", ".join(f"`{choice}`" for choice in option.choices)
        meaning = option.help.replace("|", "\\|") + (f" One of {choices}." if choices else "")
        names = ", ".join(f"`{name}`" for name in option.variables)
        yield f"| {place}{flags}{value} | {default} | {names} | {meaning} |"
    yield ""


def main() -> None:
    """Write both files."""
    commands = read_commands()
    OPTIONS_FILE.write_text(options_json(commands), encoding="utf-8")
    Path(sys.argv[1]).write_text(options_page(commands), encoding="utf-8")


if __name__ == "__main__":
    main()
