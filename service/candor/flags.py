"""What the flags of every command share: the error for a wrong flag or file, flags that may be
repeated, NAME=NUMBER, and a key out of a file.

Nothing here imports torch: the jobs that only talk to servers use this module too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter, Token

from candor.errors import reason_of

API_KEY = "CANDOR_API_KEY"
"""Holds the key of the Candor server, for the server itself and for every client."""
REWARD_URL = "CANDOR_REWARD_URL"
"""Holds the address of the Candor server, for every client that needs one."""

RewardUrl = Annotated[str, Parameter(env_var=REWARD_URL)]
"""The address of the Candor server, in a command that cannot run without it."""


class UsageError(Exception):
    """A flag, a setting or a file that cannot be right. The message names it and the fix.

    A command prints the message as one line on stderr and exits with status 2.
    """


def parse_strengths(flag: str, texts: Iterable[str]) -> dict[str, float]:
    """`["sycophancy=0.5"]` as `{"sycophancy": 0.5}`: the strength of a penalty by probe name.

    Args:
        flag: the flag that the texts were given to, for error messages.

    Raises:
        UsageError: a text that is not NAME=NUMBER, a number that is not finite or below 0, or a
            name that is given twice.
    """
    strengths: dict[str, float] = {}
    for text in texts:
        name, sign, number = text.partition("=")
        name = name.strip()
        try:
            strength = float(number)
        except ValueError:
            sign = ""
        if not (name and sign):
            raise UsageError(f"{flag} {text}: must be NAME=NUMBER, such as sycophancy=0.5")
        if name in strengths:
            raise UsageError(f"{flag} {name} is given twice")
        check_strength(flag, name, strength)
        strengths[name] = strength
    return strengths


def check_strength(flag: str, name: str, strength: float) -> None:
    """Raises UsageError where the strength of a penalty is not a finite number, at least 0."""
    if not (math.isfinite(strength) and strength >= 0):
        raise UsageError(f"{flag} {name}={strength:g}: must be a finite number, at least 0")


def read_key_file(flag: str, path: Path | None) -> str | None:
    """The key in a file, without the white space around it. None without a file.

    Args:
        flag: the flag that names the file, for error messages.

    Raises:
        UsageError: the file cannot be read, or holds no key.
    """
    if path is None:
        return None
    try:
        key = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{flag} {path}: cannot be read ({reason_of(error)})") from None
    if not key:
        raise UsageError(f"{flag} {path}: the file is empty")
    return key


def read_server_key(flag: str, path: Path | None) -> str | None:
    """The key of the Candor server that a command talks to: the one in the file, or the one in the
    environment variable CANDOR_API_KEY. None without either.

    Raises:
        UsageError: the file cannot be read, or holds no key.
    """
    return read_key_file(flag, path) or os.environ.get(API_KEY, "").strip() or None


def repeatable(flag: str, group: Group) -> Parameter:
    """A flag that may be given several times; in its environment variable spaces separate the
    values."""
    return Parameter(name=flag, group=group, negative="", show_default=False)


def mapping(flag: str, group: Group, parse: Callable[[Iterable[str]], Any]) -> Parameter:
    """A flag that may be given several times. `parse` makes one mapping of its values; in its
    environment variable spaces separate the values."""

    def convert(_type: Any, tokens: Sequence[Token]) -> Any:
        return parse(token.value for token in tokens)

    return Parameter(
        name=flag,
        group=group,
        negative="",
        show_default=False,
        converter=convert,
        accepts_keys=False,
        n_tokens=-1,
        env_var_split=lambda _type, text, **_: text.split(),
    )
