"""How a server uses a probe: `--method`.

| method | reward | S |
| --- | --- | --- |
| subtract | R - lambda * bound(S) | in the reward |
| project | R of the model without the probe's direction | read before the projection |
| screen | R, less a fine where S is above a threshold | decides on the fine |
| advantage | R | lambda * bound(S) is returned apart, for the trainer's advantages |

Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from candor.flags import UsageError

if TYPE_CHECKING:  # `candor serve --help` reads this file, and these two take a third of a second
    from candor.client.schema import Method
    from candor.probes.card import Card

METHODS: tuple[Method, ...] = ("subtract", "project", "screen", "advantage")

EVERY = "*"
"""Key of the method of all probes that have none of their own."""

SCREEN_KAPPA = 10.0
"""Fine of a screened response, in standard deviations of R within a prompt: so large that in
practice no R of the same prompt makes up for it, and finite, because it is divided by in a group's
normalisation."""


@dataclass(frozen=True, slots=True)
class Use:
    """A method, and the threshold (a logit) that `screen` was given."""

    method: Method = "subtract"
    threshold: float | None = None


SUBTRACT = Use()


def parse_methods(texts: Iterable[str]) -> dict[str, str]:
    """`["project"]` as `{"*": "project"}`, `["a=screen:0.5"]` as `{"a": "screen:0.5"}`.

    Raises:
        UsageError: a method that does not exist, or a name that is given twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, method = text.rpartition("=")
        if sign and not name.strip():
            raise UsageError(f"--method {text}: no name before '='")
        name = name.strip() if sign else EVERY
        if name in found:
            named = "without a name" if name == EVERY else f"for {name}"
            raise UsageError(f"--method {text}: --method {named} is given twice")
        use_of(name, method)
        found[name] = method
    return found


def use_of(name: str, text: str) -> Use:
    """`screen:0.5` as its method and threshold.

    Args:
        name: the probe, for the error message.

    Raises:
        UsageError: no such method, or a threshold that is not a finite number.
    """
    method, colon, number = text.partition(":")
    flag = f"--method {text}" if name == EVERY else f"--method {name}={text}"
    for known in METHODS:
        if known != method:
            continue
        if not colon:
            return Use(known)
        try:
            threshold = float(number)
        except ValueError:
            threshold = math.nan
        if known == "screen" and math.isfinite(threshold):
            return Use(known, threshold)
        raise UsageError(
            f"{flag}: only screen has a threshold, a number in logits, such as screen:0.5"
        )
    raise UsageError(f"{flag}: must be one of {', '.join(METHODS)}, or NAME=METHOD for one probe")


def use_for(name: str, methods: Mapping[str, str]) -> Use:
    """How the probe `name` is used."""
    own = name if name in methods else EVERY
    return use_of(own, methods[own]) if own in methods else SUBTRACT


def screen_threshold(card: Card) -> float | None:
    """Default S, in logits, above which a response is screened; None where the card has none.

    It is the threshold that 80 % of the validation rows of label 1 reach, at which the card counts
    flagged replies of genuine agreement; without such rows, the reference of a hinge.
    """
    agreement = card.metrics.get("genuine_agreement")
    found = agreement.get("threshold") if isinstance(agreement, dict) else None
    if isinstance(found, int | float) and math.isfinite(found):
        return float(found)
    return card.bound.reference if card.bound.kind == "hinge" else None
