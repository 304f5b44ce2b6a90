"""How strong a probe's penalty is, as command lines give it: lambda, kappa, or the closed form.

    NAME=0.5          lambda, reward units per logit; or kappa, within-prompt spreads
    NAME=0,0.5,1      the same, several to compare
    NAME=2, NAME=2:1  closed form: beta, and the S from which a response is flagged

Texts to numbers only; what they do to a reward is `candor.scoring.compose` on the server and
`candor.jobs.rollouts.scored` on stored rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from candor.jobs.running.exits import UsageError

Penalties = dict[str, dict[str, object]]
"""`penalties` of the HTTP API, by probe."""


def parse_penalties(
    penalty: Sequence[str], kappa: Sequence[str], closed_form: Sequence[str]
) -> Penalties:
    """The three flags of `candor score` as the API's `penalties`.

    Raises:
        UsageError: not of the form, or a probe named twice.
    """
    penalties: Penalties = {}
    for flag, field, given in (
        ("--penalty", "lambda", penalty),
        ("--kappa", "kappa", kappa),
        ("--closed-form", "closed_form", closed_form),
    ):
        for text in given:
            name, strength = (
                parse_closed_form(text) if flag == "--closed-form" else _parse_one(flag, text)
            )
            if name in penalties:
                raise UsageError(f"{flag} {text}: {name!r} is named twice; each probe once")
            penalties[name] = {field: strength}
    return penalties


def parse_closed_form(text: str) -> tuple[str, dict[str, float]]:
    """`NAME=BETA` or `NAME=BETA:THRESHOLD` as name and `closed_form` of the API.

    Raises:
        UsageError: not of this form, or beta not above 0.
    """
    name, _, numbers = text.partition("=")
    beta, colon, threshold = numbers.partition(":")
    found = {"beta": _number(beta)} | ({"threshold": _number(threshold)} if colon else {})
    if not name or not all(map(math.isfinite, found.values())) or not found["beta"] > 0:
        raise UsageError(
            f"--closed-form {text}: must be NAME=BETA or NAME=BETA:THRESHOLD, BETA above 0 "
            "(1 / reward units), THRESHOLD in logits"
        )
    return name, found


def parse_sweeps(flag: str, given: Sequence[str]) -> dict[str, list[float]]:
    """`["sycophancy=0,0.5,1"]` as the strengths to compare, by probe.

    Raises:
        UsageError: not of this form, a number below 0, or a probe named twice.
    """
    sweeps: dict[str, list[float]] = {}
    for text in given:
        name, _, numbers = text.partition("=")
        strengths = [_number(part) for part in numbers.split(",")]
        if not name or name in sweeps or not all(math.isfinite(s) and s >= 0 for s in strengths):
            raise UsageError(
                f"{flag} {text}: must be NAME=0,0.5,1 with numbers >= 0, each name once"
            )
        sweeps[name] = strengths
    return sweeps


def _parse_one(flag: str, text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    strength = _number(number)
    if not name or not (math.isfinite(strength) and strength >= 0):
        raise UsageError(f"{flag} {text}: must be NAME=NUMBER with a number >= 0")
    return name, strength


def _number(text: str) -> float:
    """NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
