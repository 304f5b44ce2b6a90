"""The environment variables of the commands: `candor serve --port` is CANDOR_SERVE_PORT, `candor
probe calibrate --kappa` is CANDOR_PROBE_CALIBRATE_KAPPA.

Each command has names of its own, so that a variable meant for one command cannot break another.
The key is the exception: CANDOR_API_KEY holds it for the server and for the trainers' adapters.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING

from cyclopts.config import Env

from candor import logs

if TYPE_CHECKING:
    from cyclopts import App
    from cyclopts.argument import ArgumentCollection

PREFIX = "CANDOR_"
API_KEY = "CANDOR_API_KEY"
KEY_NAMES = (API_KEY, "CANDOR_SERVE_API_KEY")
"""Variables that `candor serve` reads its API key from."""

_SERVICE_LINK = re.compile(
    r"CANDOR(_\w+)?_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_PORT = re.compile(r"CANDOR(_\w+)?_PORT")

log = logs.get(__name__)


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
    if _SERVICE_LINK.fullmatch(name):
        return True
    is_port = _SERVICE_PORT.fullmatch(name) is not None
    return is_port and value.startswith(("tcp://", "udp://", "sctp://"))


def configs() -> list[Env | _NotRead]:
    """What the command line is given as `config`."""
    return [Env(PREFIX), _NotRead()]


class _NotRead:
    """Warns of variables that look like a flag of the command that was called and are not."""

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        flags = [name for argument in arguments for name in argument.names]
        for name, instead in not_read(commands, flags, os.environ).items():
            log.warning("variable_not_read", name=name, instead=instead)


def not_read(
    commands: Iterable[str], flags: Iterable[str], environ: Mapping[str, str]
) -> dict[str, str | None]:
    """Variables of `environ` that are not read, though their names say that they were meant to be.

    Args:
        commands: words of the command that is called.
        flags: its flags, such as "--port".

    Returns:
        By name of the variable, the name to use instead: for CANDOR_KAPPA the command's own
        variable, and None where the command has no such flag.
    """
    words = "".join(f"{word.upper()}_" for word in commands)
    options = {_variable(flag) for flag in flags if flag.startswith("--")}
    read = {f"{PREFIX}{words}{option}" for option in options}
    found: dict[str, str | None] = {}
    for name in environ:
        option = name.removeprefix(PREFIX)
        if name in read or name == API_KEY or option == name or not words:
            continue
        if option in options:
            found[name] = f"{PREFIX}{words}{option}"
        elif option.startswith(words):
            found[name] = None
    return found


def _variable(flag: str) -> str:
    return flag.lstrip("-").upper().replace("-", "_")
