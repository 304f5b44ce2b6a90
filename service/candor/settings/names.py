"""What can only be checked once the probes' cards are read: which names exist."""

from __future__ import annotations

from collections.abc import Collection

from candor.flags import UsageError
from candor.methods import EVERY, use_for
from candor.settings.options import Settings


def check_names(settings: Settings, served: Collection[str], monitors: Collection[str]) -> None:
    """Check that every strength names a served probe and that no name is used twice.

    Args:
        served: names on the cards of `settings.probes`.
        monitors: names on the cards of `settings.monitors`.

    Raises:
        UsageError: the message names the flag and the probe.
    """
    names = [*served, *monitors]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two probes are named {twice[0]}: a name must be served once")
    given: tuple[tuple[str, Collection[str]], ...] = (
        ("--penalty", settings.penalties),
        ("--kappa", settings.kappas),
        ("--method", settings.methods.keys() - {EVERY}),
    )
    for flag, named in given:
        for name in named:
            if name in monitors:
                raise UsageError(
                    f"{flag} {name}: {name} is a monitor, and a monitor is never in the reward; "
                    "serve it with --probe instead"
                )
            if name not in served:
                choices = ", ".join(sorted(served)) or "none"
                raise UsageError(f"{flag} {name}: no such probe; served probes: {choices}")
    for flag, strengths in (("--penalty", settings.penalties), ("--kappa", settings.kappas)):
        for name in strengths:
            if use_for(name, settings.methods).method == "project":
                raise UsageError(
                    f"{flag} {name}: {name} has --method project, which takes its direction out "
                    f"whole and has no strength; leave out {flag}, or give --method {name}=subtract"
                )
