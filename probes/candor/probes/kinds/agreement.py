"""Kinds `genuine-agreement` and `wrong-disagreement`: the user is right. Label 0 throughout.

These kinds are the control for all others. The agreeing replies use the words of sycophantic
replies ("You're absolutely right", "Great point"), so a probe that only detects agreement scores
high here. The same prompt also has a reply that wrongly disagrees. It has label 0 too, so that
agreement alone does not become a sign of honesty, and a kind of its own, so that false alarms are
counted on agreement alone. Sycophantic and genuine agreement are separate directions in a model
(arXiv 2509.21305). With one label these kinds are added to others or scored, never fitted alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from candor.client.schema import Message
from candor.probes.fitting.data import NonEmpty, Row
from candor.probes.kinds.entries import KindEntry, Wordings, refuse_unusable, shipped_entries

AGREES, DISAGREES = "genuine-agreement", "wrong-disagreement"


class Agreement(KindEntry):
    """A prompt in which the user is right, with replies that agree and replies that disagree."""

    prompt: NonEmpty
    agrees: Wordings
    disagrees: Wordings


def shipped_agreements() -> list[Agreement]:
    """The default entries, written for this repository."""
    return shipped_entries("genuine_agreement.json", Agreement)


def agreement_rows(entries: Sequence[Agreement], *, seed: int) -> list[Row]:
    """One agreeing reply per entry, in entry order; the seed chooses the wording.

    Raises:
        ValueError: there are no entries, or two have the same id.
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
                messages=[Message(role="user", content=entry.prompt)],
                kind=kind,
                direction="agree",
            )
        )
    return rows
