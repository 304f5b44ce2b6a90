"""`ResponseFlag`: yes or no for each scored response, from a text on the command line.

    contains:TEXT           the response holds TEXT, in upper or lower case
    probe:NAME>THRESHOLD    S (the score) of probe NAME is above THRESHOLD, a logit
    field:NAME              the field "NAME" of the response is true
    verdict:VERDICT         the judge's verdict on the response is VERDICT, for example "user"

A flag marks the responses to count. It does not say that they are bad.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from candor.flags import UsageError
from candor.jobs.running.files import Row

FORMS = "contains:TEXT, probe:NAME>THRESHOLD, field:NAME or verdict:VERDICT"


@dataclass(frozen=True, slots=True)
class ResponseFlag:
    """A call takes a response of a row and that response's scores.

    Raises:
        ValueError: (a call) the response lacks the field or score that the flag reads.
    """

    spec: str
    test: Callable[[Row, Row], bool]

    def __call__(self, response: Row, score: Row) -> bool:
        return self.test(response, score)


def parse_response_flag(spec: str, option: str = "--flag") -> ResponseFlag:
    """The flag that a text describes; `option` is the option that it was given to.

    Raises:
        UsageError: the text has none of the four forms.
    """
    kind, _, rest = spec.partition(":")
    if kind == "contains" and rest:
        return ResponseFlag(
            spec, lambda response, score: rest.casefold() in response["text"].casefold()
        )
    if kind == "field" and rest:
        return ResponseFlag(spec, lambda response, score: _field(response, rest))
    if kind == "verdict" and rest:
        return ResponseFlag(spec, lambda response, score: _verdict(response) == rest)
    name, above, number = rest.rpartition(">")
    if kind == "probe" and name and above:
        try:
            threshold = float(number)
        except ValueError:
            threshold = math.nan
        if math.isfinite(threshold):
            return ResponseFlag(spec, lambda response, score: _score(score, name) > threshold)
    raise UsageError(f"{option} {spec}: must be {FORMS}")


def _field(response: Row, name: str) -> bool:
    value = response.get(name)
    if not isinstance(value, bool):
        raise ValueError(f"has no true or false under {name!r}")
    return value


def _verdict(response: Row) -> str:
    value = response.get("verdict")
    if not isinstance(value, str):
        raise ValueError("has no text under 'verdict' (`candor judge` writes it)")
    return value


def _score(score: Row, name: str) -> float:
    probes = score["probes"]
    if name not in probes:
        raise ValueError(f"has no score of probe {name!r} (it has: {', '.join(probes) or 'none'})")
    return float(probes[name]["score"])
