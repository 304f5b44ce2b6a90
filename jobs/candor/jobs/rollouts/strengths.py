"""How strong a probe's penalty is, as command lines give it: lambda, kappa, or the closed form.

    NAME=0.5          lambda, reward units per logit; or kappa, which has no unit
    NAME=0,0.5,1      the same, several to compare
    NAME=2, NAME=2:1  closed form: beta, and the S above which a response is flagged

Here are only the parsers. The effect on a reward is in `candor.scoring.compose` on the server and
in `candor.jobs.rollouts.scored` for stored rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from candor.flags import UsageError, parse_strengths

Penalties = dict[str, dict[str, object]]
"""`penalties` of the HTTP API, by probe."""

LambdaOption = Annotated[
    list[str] | None,
    Parameter(
        negative="",
        help="NAME=LAMBDA: use LAMBDA as the strength of probe NAME's penalty, in reward units per "
        "logit. The penalty is lambda * bound(S): S is the probe's score in logits, and bound "
        "limits it as the probe's card says. May be repeated.",
    ),
]
KappaOption = Annotated[
    list[str] | None,
    Parameter(
        negative="",
        help="NAME=KAPPA: the same strength without a unit. kappa = lambda * std(bound(S)) / "
        "std(R): R is the reward model's score; both standard deviations are within a prompt and "
        "on the probe's card. May be repeated.",
    ),
]
ClosedFormOption = Annotated[
    list[str] | None,
    Parameter(
        negative="",
        help="NAME=BETA or NAME=BETA:THRESHOLD: each response with S above THRESHOLD (logits; "
        "default: from the probe's card) is penalised by lambda(x), the least penalty that keeps "
        "an optimiser of strength BETA (1 / reward units) from favouring such responses to the "
        "same prompt. May be repeated.",
    ),
]
"""Options that several commands share."""


def parse_penalties(
    penalty: Sequence[str] | None, kappa: Sequence[str] | None, closed_form: Sequence[str] | None
) -> Penalties:
    """The values of `--penalty`, `--kappa` and `--closed-form` as the API's `penalties`.

    Raises:
        UsageError: a value is not of its form, or two name the same probe.
    """
    penalties: Penalties = {}
    for field, strengths in (
        ("lambda", parse_strengths("--penalty", penalty or ()).items()),
        ("kappa", parse_strengths("--kappa", kappa or ()).items()),
        ("closed_form", map(parse_closed_form, closed_form or ())),
    ):
        for name, strength in strengths:
            if name in penalties:
                raise UsageError(f"probe {name!r} is given two strengths; give one")
            penalties[name] = {field: strength}
    return penalties


def parse_closed_form(text: str) -> tuple[str, dict[str, float]]:
    """`NAME=BETA` or `NAME=BETA:THRESHOLD` as the probe's name and the API's `closed_form`.

    Raises:
        UsageError: the text is not of this form, or beta is not above 0.
    """
    name, _, numbers = text.partition("=")
    beta, colon, threshold = numbers.partition(":")
    form = {"beta": _number(beta)} | ({"threshold": _number(threshold)} if colon else {})
    if not name or not all(map(math.isfinite, form.values())) or not form["beta"] > 0:
        raise UsageError(
            f"--closed-form {text}: must be NAME=BETA or NAME=BETA:THRESHOLD, BETA above 0 "
            "(1 / reward units), THRESHOLD in logits"
        )
    return name, form


def parse_sweeps(flag: str, values: Sequence[str] | None) -> dict[str, list[float]]:
    """`["sycophancy=0,0.5,1"]` as the strengths to compare, by probe.

    Raises:
        UsageError: a value is not of this form, a number is below 0, or a probe is named twice.
    """
    sweeps: dict[str, list[float]] = {}
    for text in values or ():
        name, _, numbers = text.partition("=")
        strengths = [_number(part) for part in numbers.split(",")]
        if not name or name in sweeps or not all(math.isfinite(s) and s >= 0 for s in strengths):
            raise UsageError(
                f"{flag} {text}: must be NAME=0,0.5,1 with numbers of at least 0, each name once"
            )
        sweeps[name] = strengths
    return sweeps


def _number(text: str) -> float:
    """NaN for a text that is not a number."""
    try:
        return float(text)
    except ValueError:
        return math.nan
