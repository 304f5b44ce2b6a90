"""`candor completion bash|zsh`: the completion script of a shell, made of `options.json`.

    candor completion bash > ~/.local/share/bash-completion/completions/candor
    source <(candor completion zsh)

The script holds every command, flag and choice, so that completing asks no Python. zsh reads the
same script through its own `bashcompinit`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from candor.cli.known import KnownCommand, known_commands, subcommands

Shell = Literal["bash", "zsh"]

ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"

HEAD = """# Completion of `candor` for bash; in zsh after bashcompinit. Made by `candor completion`.
_candor() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
  local command=${COMP_WORDS[1]}
  local words="" choices=""
  case " %s " in *" $command "*) command="$command ${COMP_WORDS[2]}" ;; esac
"""

TAIL = """  if [ -n "$choices" ]; then
    COMPREPLY=($(compgen -W "$choices" -- "$word"))
  elif [ "${word#-}" != "$word" ]; then
    COMPREPLY=($(compgen -W "$words" -- "$word"))
  else
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}
complete -o filenames -F _candor candor
"""


def completion(shell: Shell) -> int:
    """Print the completion script for a shell.

    Parameters
    ----------
    shell
        The shell that shall complete.
    """
    print((ZSH if shell == "zsh" else "") + "\n".join(script_lines()), end="")
    return 0


def script_lines() -> Iterator[str]:
    """The script for bash."""
    commands = known_commands()
    groups = [word for word in _first_words() if subcommands(word)]
    yield (HEAD % " ".join(groups)).rstrip("\n")
    yield '  if [ "$COMP_CWORD" -eq 1 ]; then'
    yield f'    choices="{" ".join([*_first_words(), "--help", "--version"])}"'
    for group in groups:
        second = " ".join(command.name.partition(" ")[2] for command in subcommands(group))
        yield f'  elif [ "$COMP_CWORD" -eq 2 ] && [ "${{COMP_WORDS[1]}}" = {group} ]; then'
        yield f'    choices="{second} --help"'
    yield "  else"
    yield '    case "$command" in'
    for command in commands:
        yield from _case(command)
    yield "    esac"
    yield "  fi"
    yield TAIL


def _first_words() -> list[str]:
    return list(dict.fromkeys(command.name.partition(" ")[0] for command in known_commands()))


def _case(command: KnownCommand) -> Iterator[str]:
    """The flags of a command, and the choices of those that have some."""
    flags = [flag for option in command.options for flag in option.flags]
    yield f'      "{command.name}")'
    yield f'        words="{" ".join([*flags, "--config", "--help"])}"'
    limited = [option for option in command.options if option.choices]
    if limited:
        yield '        case "$before" in'
        for option in limited:
            yield f"          {'|'.join(option.flags)})"
            yield f'            choices="{" ".join(option.choices)}" ;;'
        yield "        esac"
    yield "        ;;"
