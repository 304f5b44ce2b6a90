"""`Flag`: a yes or no about one scored response, from a text on the command line.

    contains:TEXT           the response holds TEXT, upper and lower case alike
    probe:NAME>THRESHOLD    S of a scored probe is above THRESHOLD, a logit
    field:NAME              "NAME" of the response is true (or false), as whoever made the file said

A flag says what is counted, not that it is bad: whether agreeing is wrong is the data's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from candor.jobs.running.exits import UsageError
from candor.jobs.running.files import Row

FORMS = "contains:TEXT, probe:NAME>THRESHOLD or field:NAME"


@dataclass(frozen=True, slots=True)
class Flag:
    """Call it with a response of a row and its scores.

    Raises:
        ValueError: (of a call) the response lacks what the flag looks at; the message says what.
    """

    spec: str
    test: Callable[[Row, Row], bool]

    def __call__(self, response: Row, score: Row) -> bool:
        return self.test(response, score)


def parse_flag(spec: str) -> Flag:
    """A flag of its text.

    Raises:
        UsageError: none of the forms.
    """
    kind, _, rest = spec.partition(":")
    if kind == "contains" and rest:
        return Flag(spec, lambda response, score: rest.casefold() in response["text"].casefold())
    if kind == "field" and rest:
        return Flag(spec, lambda response, score: _field(response, rest))
    name, above, number = rest.rpartition(">")
    if kind == "probe" and name and above:
        try:
            threshold = float(number)
        except ValueError:
            threshold = math.nan
        if math.isfinite(threshold):
            return Flag(spec, lambda response, score: _score(score, name) > threshold)
    raise UsageError(f"--flag {spec}: must be {FORMS}")


def _field(response: Row, name: str) -> bool:
    value = response.get(name)
    if not isinstance(value, bool):
        raise ValueError(f"has no true or false under {name!r}")
    return value


def _score(score: Row, name: str) -> float:
    probes = score["probes"]
    if name not in probes:
        raise ValueError(f"has no score of probe {name!r} (it has: {', '.join(probes) or 'none'})")
    return float(probes[name]["score"])
