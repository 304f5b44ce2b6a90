"""The environment variables of the commands: `candor serve --port` is CANDOR_SERVE_PORT, `candor
probe calibrate --kappa` is CANDOR_PROBE_CALIBRATE_KAPPA.

Each command has names of its own, so that a variable meant for one command cannot break another.
The exceptions are about the server that every client talks to: CANDOR_API_KEY is its key, and
CANDOR_REWARD_URL its address.

A variable that looks like an option of the command and is none is refused: a strength that is
given and not used would be a wrong reward.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING

from cyclopts.config import Env

from candor.flags import API_KEY, UsageError
from candor.nearest import nearest

if TYPE_CHECKING:
    from cyclopts import App
    from cyclopts.argument import ArgumentCollection

PREFIX = "CANDOR_"
KEY_NAMES = (API_KEY, "CANDOR_SERVE_API_KEY")
"""Variables that `candor serve` reads its API key from."""
ADAPTERS = "CANDOR_REWARD_"
"""The variables of the trainers' adapters begin so (`candor.client.rows`)."""
CONFIG_FLAG = "--config"
"""Names the configuration file of every command; it is no option of the command's own."""

_SERVICE_LINK = re.compile(
    r"CANDOR(_\w+)?_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?"
    r"|ENV_\w+)"
)
_SERVICE_PORT = re.compile(r"CANDOR(_\w+)?_PORT")
_LINK_NAME = re.compile(r"CANDOR(_\w+)?_NAME=/[^/]+/[^/]+")


def variable_of(command: str, flag: str) -> str:
    """The environment variable of a command's option.

    Args:
        command: words of the command, such as "probe train".
        flag: such as "--hold-out-kind".
    """
    return f"{PREFIX}{command.upper().replace(' ', '_')}_{_upper(flag)}"


def forget_service_links(environ: MutableMapping[str, str] | None = None) -> None:
    """Removes what Kubernetes and Docker set in every container for a service whose name begins
    with "candor".

    A service `candor` gives CANDOR_PORT=tcp://10.0.0.1:8000, and a service `candor-serve` gives
    CANDOR_SERVE_PORT=tcp://10.0.0.1:8000, which is no port.
    """
    environ = os.environ if environ is None else environ
    for name in [name for name in environ if _is_service_link(name, environ[name])]:
        del environ[name]


def forget_empty(environ: MutableMapping[str, str] | None = None) -> None:
    """Removes empty variables, which count as unset: `${PORT:-}` in a compose file writes them.

    An empty key stays, and the server refuses it: a secret that went missing must not open it.
    """
    environ = os.environ if environ is None else environ
    for name in [name for name in environ if name.startswith(PREFIX) and not environ[name]]:
        if name not in KEY_NAMES:
            del environ[name]


def _is_service_link(name: str, value: str) -> bool:
    if _SERVICE_LINK.fullmatch(name) or _LINK_NAME.fullmatch(f"{name}={value}"):
        return True
    is_port = _SERVICE_PORT.fullmatch(name) is not None
    return is_port and value.startswith(("tcp://", "udp://", "sctp://"))


def configs() -> list[Env | _Misnamed]:
    """What the command line is given as `config`, in the order in which values are taken."""
    return [Env(PREFIX), _Misnamed()]


class _Misnamed:
    """Refuses variables that look like an option of the command that was called and are none."""

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        flags = [name for argument in arguments for name in argument.names]
        if found := misnamed(" ".join(commands), flags, os.environ):
            raise UsageError(found[0])


def misnamed(command: str, flags: Iterable[str], environ: Mapping[str, str]) -> list[str]:
    """One sentence per variable of `environ` that was meant for this command and is not read.

    Until version 0.1 all commands shared their names: `CANDOR_KAPPA` was `--kappa` of `candor
    serve` and of `candor probe calibrate`.

    Args:
        command: words of the command that is called.
        flags: its flags, such as "--port".
    """
    if not command:
        return []
    flags = [flag for flag in flags if flag.startswith("--")]
    read = {variable_of(command, flag) for flag in [*flags, CONFIG_FLAG]}
    renamed = {f"{PREFIX}{_upper(flag)}": variable_of(command, flag) for flag in flags}
    own = variable_of(command, "")
    found = []
    for name in sorted(environ):
        if name in read or name == API_KEY or name.startswith(ADAPTERS):
            continue
        if name in renamed:
            found.append(f"{name} is not read any more: rename it to {renamed[name]}")
        elif name.startswith(own):
            near = nearest(name.removeprefix(own), [one.removeprefix(own) for one in read])
            advice = f"; did you mean {own}{near}?" if near else "; unset it"
            found.append(f"{name} is no option of candor {command}{advice}")
    return found


def _upper(flag: str) -> str:
    return flag.lstrip("-").upper().replace("-", "_")
