"""The settings of a `RewardServer` that environment variables give, for trainers that only name a
function."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from typing import Any


def settings_of_environment() -> dict[str, Any]:
    """The fields that a variable CANDOR_REWARD_NAME sets. Address and key are read at the call.

    Raises:
        ValueError: a variable has a wrong value; the message names it.
    """
    settings: dict[str, Any] = {}
    for name, read in READERS.items():
        variable = f"CANDOR_REWARD_{name.upper()}"
        if text := os.environ.get(variable):
            try:
                settings[name] = read(text)
            except ValueError as error:
                raise ValueError(f"{variable}={text}: {error}") from None
    return settings


def _json_mapping(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError('must be JSON such as {"sycophancy": {"kappa": 1.0}}')
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError("must be seconds, a number from 0")
    return value


def _one_of(text: str, names: Sequence[str]) -> str:
    if text not in names:
        raise ValueError(f"must be one of {', '.join(names)}")
    return text


READERS: dict[str, Callable[[str], Any]] = {
    "penalties": _json_mapping,
    "truncation": lambda text: _one_of(text, ("error", "left")),
    "empty_response": lambda text: _one_of(text, ("error", "score")),
    "templated": lambda text: _one_of(text, ("1", "0")) == "1",
    "timeout_s": _seconds,
    "patience_s": _seconds,
}
"""How each of these fields is read."""
