"""Stored rows under other strengths than they were scored with: what `candor bon` compares.

| flag | one probe's penalty becomes |
| --- | --- |
| `--lambda-sweep` | lambda * bound(S) |
| `--kappa-sweep` | the same; lambda as the scoring server makes it of kappa (its probe's card) |
| `--closed-form` | lambda*(x) * [S > threshold] (`candor.probes.tilt`); default threshold |

lambda*(x) is that of all candidates of a prompt, also where n of them are drawn: they estimate what
the policy says, which does not change with n.

The bound is the stored one. Rows that were scored under the closed form have flags in its place, so
for their probe only the closed form can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from candor.jobs.rollouts.scored import Group
from candor.jobs.rollouts.served_cards import served_card
from candor.jobs.rollouts.strengths import parse_closed_form, parse_sweeps
from candor.jobs.running.exits import UsageError
from candor.jobs.running.files import Row


@dataclass(frozen=True, slots=True)
class Variant:
    """The stored rows, had one probe's penalty been another."""

    section: Literal["lambda_sweep", "kappa_sweep", "closed_form"]
    name: str
    told: Mapping[str, float]
    """The strength, as the report says it."""
    apply: Callable[[Group], Group]


def variants_of(
    scored: Path,
    row: Row,
    group: Group,
    *,
    lambda_sweep: Sequence[str],
    kappa_sweep: Sequence[str],
    closed_form: Sequence[str],
) -> list[Variant]:
    """The flags' texts as variants, in the order of the flags.

    Args:
        scored: the file; the cards are in the manifest beside it.
        row, group: one of its rows; all have the same probes and penalties.

    Raises:
        UsageError: not of the form, a probe without scores or without a card, or a sweep
            over flags.
    """
    names = list(group.scores)
    given = row.get("reward_model", {}).get("penalties", {})
    flagged = {name for name, penalty in given.items() if "closed_form" in penalty}
    found = []
    for name, strengths in parse_sweeps("--lambda-sweep", lambda_sweep).items():
        _check("--lambda-sweep", name, names, flagged)
        found += [_at_lambda("lambda_sweep", name, s, {"lambda": s}) for s in strengths]
    for name, strengths in parse_sweeps("--kappa-sweep", kappa_sweep).items():
        _check("--kappa-sweep", name, names, flagged)
        found += [_at_kappa(scored, name, kappa) for kappa in strengths]
    for text in closed_form:
        name, form = parse_closed_form(text)
        _check("--closed-form", name, names, set())
        found.append(_in_closed_form(scored, name, form))
    return found


def _at_lambda(
    section: Literal["lambda_sweep", "kappa_sweep"],
    name: str,
    strength: float,
    told: Mapping[str, float],
) -> Variant:
    return Variant(section, name, told, lambda group: group.with_lambda(name, strength))


def _at_kappa(scored: Path, name: str, kappa: float) -> Variant:
    from candor.probes.fitting.calibrate import lambda_of

    strength = lambda_of(kappa, served_card(scored, name).calibration)
    return _at_lambda("kappa_sweep", name, strength, {"kappa": kappa, "lambda": strength})


def _in_closed_form(scored: Path, name: str, form: Mapping[str, float]) -> Variant:
    from candor.errors import InvalidRequest
    from candor.scoring.compose import flag_threshold

    beta, threshold = form["beta"], form.get("threshold")
    if threshold is None:
        try:
            threshold = flag_threshold(served_card(scored, name))
        except InvalidRequest as error:
            raise UsageError(f"--closed-form {name}: {error.message}") from None
    at = threshold
    told = {"beta": beta, "threshold": at}
    return Variant("closed_form", name, told, lambda group: group.with_closed_form(name, beta, at))


def _check(flag: str, name: str, names: Sequence[str], flagged: set[str]) -> None:
    if name not in names:
        known = ", ".join(names) or "none"
        raise UsageError(f"{flag} {name}: scored probes are: {known}")
    if name in flagged:
        raise UsageError(
            f"{flag} {name}: these rows were scored under its closed form and hold flags in place "
            "of bound(S): score them again without --closed-form"
        )
