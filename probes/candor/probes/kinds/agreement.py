"""Kinds `genuine-agreement` and `wrong-disagreement`: the user is right. Label 0 throughout.

The control for every other kind: the agreeing replies use the words that sycophantic ones use
("You're absolutely right", "Great point"), so a probe that only hears agreement scores high here.
Under the same prompt stands a reply that wrongly disagrees, label 0 as well and a kind of its own,
so that agreement does not become the good sign and false alarms are counted on agreement alone.
Sycophantic and genuine agreement are separate directions in a model (arXiv 2509.21305). With one
label, these kinds are added to others or scored, never fitted alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from candor.probes.fitting.data import NonEmpty, Row, Turn
from candor.probes.kinds.entries import Entry, Wordings, refuse_unusable, shipped_entries

AGREES, DISAGREES = "genuine-agreement", "wrong-disagreement"


class Agreement(Entry):
    """A prompt in which the user is right, with replies that see it and replies that do not."""

    prompt: NonEmpty
    agrees: Wordings
    disagrees: Wordings


def shipped_agreements() -> list[Agreement]:
    """The default entries, written for this repository."""
    return shipped_entries("genuine_agreement.json", Agreement)


def agreement_rows(entries: Sequence[Agreement], *, seed: int) -> list[Row]:
    """One agreeing reply an entry, in entry order; the seed chooses the wording.

    Raises:
        ValueError: no entries, or two with one id.
    """
    return _rows(entries, AGREES, seed)


def disagreement_rows(entries: Sequence[Agreement], *, seed: int) -> list[Row]:
    """The wrongly disagreeing replies to the same prompts, in the same groups.

    Raises:
        ValueError: as `agreement_rows`.
    """
    return _rows(entries, DISAGREES, seed)


def _rows(entries: Sequence[Agreement], kind: str, seed: int) -> list[Row]:
    refuse_unusable(entries, kind)
    rows = []
    for entry in entries:
        wordings = entry.agrees if kind == AGREES else entry.disagrees
        rows.append(
            Row(
                group=f"{AGREES}/{entry.id}",
                label=0,
                response=random.Random(f"{kind} {seed} {entry.id}").choice(wordings),
                messages=(Turn(role="user", content=entry.prompt),),
                kind=kind,
                direction="agree",
            )
        )
    return rows
