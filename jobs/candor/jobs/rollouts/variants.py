"""Stored rows under other penalty strengths than they were scored with.

| flag of `candor bon` | the probe's penalty becomes |
| --- | --- |
| `--lambda-sweep` | lambda * bound(S) |
| `--kappa-sweep` | the same, with the lambda that the scoring server makes of kappa |
| `--closed-form` | lambda*(x) * [S > threshold] (`candor.probes.tilt`) |

lambda*(x) is computed from all candidates of a prompt, also where n of them are drawn: the
candidates estimate the policy's distribution, which does not change with n.

bound(S) is the stored value. Rows that were scored under the closed form, or by a server that
screens (`--method screen`), hold flags in its place, so for that probe only the closed form can be
compared. A projected probe has no strength, and R without its projection is not in the rows, so
nothing can be compared for it. The rows of `--method advantage` hold R and bound(S): their sweeps
are those of a penalty in the reward.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from candor.flags import UsageError
from candor.jobs.rollouts.scored import ScoredGroup, methods_of
from candor.jobs.rollouts.served_cards import served_card
from candor.jobs.rollouts.strengths import parse_closed_form, parse_sweeps
from candor.jobs.running.files import Row
from candor.probes.fitting.calibrate import lambda_of
from candor.probes.tilt import default_threshold

Section = Literal["lambda_sweep", "kappa_sweep", "closed_form"]


@dataclass(frozen=True, slots=True)
class Variant:
    """A change of one probe's strength."""

    section: Section
    name: str
    """The probe."""
    strength: Mapping[str, float]
    """The new strength, as the report states it."""
    apply: Callable[[ScoredGroup], ScoredGroup]
    """From a group to the same group with the new strength."""

    def as_json(self) -> dict[str, Any]:
        return {"section": self.section, "probe": self.name, **self.strength}


def variants_of(
    scored: Path,
    row: Row,
    group: ScoredGroup,
    *,
    lambda_sweep: Sequence[str] | None,
    kappa_sweep: Sequence[str] | None,
    closed_form: Sequence[str] | None,
) -> list[Variant]:
    """The values of the three flags as variants, in the order of the flags.

    Args:
        scored: the scored file; the manifest beside it holds the probes' cards.
        row, group: one of its rows and that row's numbers; all rows have the same probes and
            penalties.

    Raises:
        UsageError: a value is not of its form, a probe has no scores or no card, lambda is to be
            changed where the rows hold flags, or the probe is projected.
    """
    methods = methods_of(row)
    penalties = row.get("reward_model", {}).get("penalties", {})
    flagged = {name for name, penalty in penalties.items() if "closed_form" in penalty}
    lambdas, kappas = (
        [
            (name, strength)
            for name, strengths in parse_sweeps(flag, values).items()
            for strength in strengths
        ]
        for flag, values in (("--lambda-sweep", lambda_sweep), ("--kappa-sweep", kappa_sweep))
    )
    forms = [parse_closed_form(text) for text in closed_form or ()]
    for name in dict.fromkeys(name for name, _ in [*lambdas, *kappas, *forms]):
        if name not in group.scores:
            names = ", ".join(group.scores) or "none"
            raise UsageError(f"no scores of probe {name!r}; scored probes are: {names}")
        if methods.get(name) == "project":
            raise UsageError(
                f"{name}: these rows were scored with --method project, so R is without this "
                "probe's direction and a penalty has no other strength: score them again on a "
                "server that subtracts"
            )
    _refuse_flags([name for name, _ in [*lambdas, *kappas]], flagged, methods)
    _warn_of_old_kappa(scored, [name for name, _ in kappas])
    return [
        *(_at_lambda("lambda_sweep", name, value, {"lambda": value}) for name, value in lambdas),
        *(_at_kappa(scored, name, kappa) for name, kappa in kappas),
        *(_in_closed_form(scored, name, form) for name, form in forms),
    ]


def _refuse_flags(names: Sequence[str], flagged: Set[str], methods: Mapping[str, str]) -> None:
    """Another strength needs bound(S); under the closed form and `screen` rows hold flags."""
    for name in names:
        if name in flagged:
            raise UsageError(
                f"{name}: these rows were scored under its closed form and hold flags in place of "
                "bound(S): score them again without --closed-form"
            )
        if methods.get(name) == "screen":
            raise UsageError(
                f"{name}: these rows were scored with --method screen and hold flags in place of "
                "bound(S): score them again on a server that subtracts"
            )


def _warn_of_old_kappa(scored: Path, names: Sequence[str]) -> None:
    for name in dict.fromkeys(names):
        if served_card(scored, name).calibration.std_bounded_S is None:
            print(
                f"candor: {name}: the card that served {scored} has no std(bound(S)), so its kappa "
                "is lambda * std(S) / std(R): calibrate the probe (candor probe calibrate) and "
                "score again",
                file=sys.stderr,
            )


def _at_lambda(
    section: Section, name: str, lambda_: float, strength: Mapping[str, float]
) -> Variant:
    return Variant(section, name, strength, lambda group: group.with_lambda(name, lambda_))


def _at_kappa(scored: Path, name: str, kappa: float) -> Variant:
    lambda_ = lambda_of(kappa, served_card(scored, name).calibration)
    return _at_lambda("kappa_sweep", name, lambda_, {"kappa": kappa, "lambda": lambda_})


def _in_closed_form(scored: Path, name: str, form: Mapping[str, float]) -> Variant:
    strength = dict(form)
    if "threshold" not in strength:
        threshold = default_threshold(served_card(scored, name))
        if threshold is None:
            raise UsageError(
                f"--closed-form {name}: the probe's card has no median S: give a threshold, "
                f"{name}=BETA:THRESHOLD"
            )
        strength["threshold"] = threshold
    return Variant(
        "closed_form", name, strength, lambda group: group.with_closed_form(name, **strength)
    )
