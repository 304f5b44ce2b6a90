"""`--config FILE.yaml`: options of one command, from a file.

    model: path/to/model
    probe: [probes/sycophancy, probes/length]
    kappa: {sycophancy: 1.0}
    port: 8001

A key is an option's name without its dashes. A list gives an option several times; a mapping is
NAME=VALUE for each of its entries. Flags and environment variables come before the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from candor.errors import reason_of
from candor.flags import UsageError
from candor.nearest import did_you_mean
from candor.variables import CONFIG_FLAG, variable_of

if TYPE_CHECKING:
    from cyclopts import App
    from cyclopts.argument import Argument, ArgumentCollection

SECRET = {"api-key": "api-key-file"}
"""Keys that are no setting: a configuration file is copied and committed."""


def take_config_flag(
    command: str, arguments: Sequence[str], environ: MutableMapping[str, str]
) -> tuple[list[str], Path | None]:
    """The arguments without `--config FILE`, and the file; None where there is none.

    Raises:
        UsageError: no file follows the flag, or it is given twice.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    rest: list[str] = []
    files: list[str] = []
    waiting = iter(arguments[:end])
    for argument in waiting:
        if argument == CONFIG_FLAG:
            files.append(next(waiting, ""))
        elif argument.startswith(f"{CONFIG_FLAG}="):
            files.append(argument.partition("=")[2])
        else:
            rest.append(argument)
    if not files and (named := environ.get(variable_of(command, CONFIG_FLAG))):
        files.append(named)
    if len(files) > 1:
        raise UsageError(f"{CONFIG_FLAG} is given twice: give one file")
    if files and not files[0]:
        raise UsageError(f"{CONFIG_FLAG}: give a YAML file")
    return [*rest, *arguments[end:]], Path(files[0]) if files else None


class ConfigFile:
    """Gives the options of a file to the command that is called, where nothing else gave them."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        from cyclopts import Token

        options = {
            name.removeprefix("--"): argument
            for argument in arguments
            if argument.parse and argument.show
            for name in argument.names
            if name.startswith("--")
        }
        for key, value in read_config(self.file).items():
            name = key.replace("_", "-")
            where = f"{self.file}: {key}"
            if name in SECRET:
                raise UsageError(f"{where}: write the key into a file of its own; {SECRET[name]}")
            if name not in options:
                near = did_you_mean(name, options)
                raise UsageError(f"{where}: no option of candor {' '.join(commands)}{near}")
            argument = options[name]
            values = list(_texts(value, where))
            _check_number(argument, values, where)
            if not argument.tokens:
                for index, text in enumerate(values):
                    argument.append(
                        Token(keyword=key, value=text, source=str(self.file), index=index)
                    )


def read_config(file: Path) -> dict[str, Any]:
    """The options in a file.

    Raises:
        UsageError: it cannot be read, is no YAML, or holds no mapping of names.
    """
    import yaml

    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{CONFIG_FLAG} {file}: cannot be read ({reason_of(error)})") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{CONFIG_FLAG} {file}: is no YAML: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise UsageError(f"{CONFIG_FLAG} {file}: write one option per line, such as port: 8001")
    return found


def _texts(value: Any, where: str) -> Iterator[str]:
    """A value as the command line would give it."""
    if isinstance(value, dict):
        for name, part in value.items():
            if isinstance(part, list):
                yield f"{name}={','.join(_text(one, where) for one in part)}"
            else:
                yield f"{name}={json.dumps(part) if isinstance(part, dict) else _text(part, where)}"
    elif isinstance(value, list):
        for part in value:
            yield _text(part, where)
    else:
        yield _text(value, where)


def _text(value: Any, where: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str | int | float):
        return str(value)
    kind = "no value; leave the line out" if value is None else f"a {type(value).__name__}"
    raise UsageError(f"{where}: must be a text, a number, a list or a mapping, and is {kind}")


def _check_number(argument: Argument, values: Sequence[str], where: str) -> None:
    _, repeat = argument.token_count()
    if len(values) != 1 and not repeat:
        raise UsageError(f"{where}: takes one value, and the file has {len(values)}")
