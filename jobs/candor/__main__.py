"""`candor` and `python -m candor`: from the words of a command line to the command.

`--help` answers without importing a command, and an installation without a command's packages gets
one line that says what to install. Exit status of a wrong flag or file, in every command: 2.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

from candor.cli.help import asks_for_help, print_help
from candor.cli.known import find_command, known_commands, subcommands
from candor.nearest import did_you_mean

if TYPE_CHECKING:
    from cyclopts import CycloptsError

SLOW_S = 3.0
"""torch alone may take longer from a cold disk, and nothing else is said meanwhile."""
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141
"""As a shell reports a process that SIGINT or SIGPIPE ended."""


def main() -> None:
    """Entry point of the `candor` script."""
    try:
        call(sys.argv[1:])
    except KeyboardInterrupt:  # a job that is under way says itself how it goes on
        print("candor: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # `candor serve --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_PIPE)


def call(arguments: Sequence[str]) -> NoReturn:
    """Answers a question for help, or runs a command. Raises SystemExit in every case."""
    if [*arguments] == ["--version"]:
        from candor.version import VERSION

        print(VERSION)
        sys.exit(0)
    if asks_for_help(arguments) and print_help(arguments):
        sys.exit(0)
    command = find_command(arguments)
    if command is None:
        wrong(unknown(arguments))
    try:
        status = run(command.name, arguments)
    except ImportError as error:
        # cyclopts wraps what a command's module raises when it is imported.
        absent = error if isinstance(error, ModuleNotFoundError) else error.__cause__
        if not isinstance(absent, ModuleNotFoundError) or is_ours(absent):
            raise
        sys.exit(
            f"candor {command.name}: packages are missing: pip install "
            f"'candor-rewards[{command.extra}]' (no module {absent.name!r})"
        )
    sys.exit(status)


def run(name: str, arguments: Sequence[str]) -> int | None:
    """Calls the command; its exit status.

    Raises:
        SystemExit: (2) a flag, a variable or a file is wrong; one line on stderr says which.
        ImportError: a package is not installed.
    """
    from cyclopts import CycloptsError

    from candor import logs
    from candor.cli.commands import build_app
    from candor.cli.config_file import ConfigFile, take_config_flag
    from candor.flags import UsageError
    from candor.variables import configs, forget_empty, forget_service_links

    logs.configure("WARNING")  # stdout is for results; `serve` turns more on
    forget_service_links()
    forget_empty()
    app = build_app()
    try:
        rest, file = take_config_flag(name, arguments, os.environ)
        app.config = [*configs(), *([] if file is None else [ConfigFile(file)])]
        with said_when_slow(f"candor: importing what candor {name} needs"):
            call, bound, _ = app.parse_args(rest, print_error=False, exit_on_error=False)
        status: int | None = call(*bound.args, **bound.kwargs)
    except UsageError as error:
        wrong(str(error))
    except CycloptsError as error:
        wrong(fault(name, error))
    return status


@contextlib.contextmanager
def said_when_slow(words: str) -> Iterator[None]:
    """Says `words` on stderr if the block takes longer than `SLOW_S` seconds."""
    timer = threading.Timer(SLOW_S, print, (words,), {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def fault(name: str, error: CycloptsError) -> str:
    """What is wrong with the options of a command, and where they are listed."""
    from cyclopts import MissingArgumentError, UnusedCliTokensError

    message = str(error)
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        flag = error.argument.name
        places = [
            option.place
            for command in known_commands()
            for option in command.options
            if command.name == name and flag in option.flags and option.place
        ]
        word = f"{places[0]} (or {flag})" if places else flag
        message = f"{name} needs {word}"
    elif isinstance(error, UnusedCliTokensError):
        words = " ".join(error.unused_tokens or [])
        message = f"{name} does not take {words!r} here"
    return f"{message.rstrip('.')}; candor {name} --help lists the options"


def wrong(message: str) -> NoReturn:
    """Say on one line of stderr what is wrong with the command line, and exit with status 2."""
    print("candor:", " ".join(message.split()), file=sys.stderr)
    sys.exit(2)


def unknown(arguments: Sequence[str]) -> str:
    """The message for words that are no command, with the nearest command."""
    words = [word for word in arguments if not word.startswith("-")]
    if not words:
        return f"{arguments[0]} is no option of candor; candor --help lists the commands"
    group = f"{words[0]} " if subcommands(words[0]) else ""
    word = words[1] if group and len(words) > 1 else words[0]
    if group and len(words) == 1:
        return f"{words[0]} is a group of commands; candor {words[0]} --help lists them"
    names = [
        command.name.removeprefix(group)
        for command in known_commands()
        if command.name.startswith(group)
    ]
    first_words = dict.fromkeys(name.partition(" ")[0] for name in names)
    nearest = did_you_mean(word, first_words) or did_you_mean(" ".join(words[:2]), names)
    return f"no command {group}{word}" + (nearest or f"; there are {', '.join(first_words)}")


def is_ours(error: ModuleNotFoundError) -> bool:
    """Whether the missing module is Candor's own, so that no package can bring it."""
    return (error.name or "").partition(".")[0] == "candor"


if __name__ == "__main__":
    main()
