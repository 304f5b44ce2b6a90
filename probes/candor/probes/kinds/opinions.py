"""Kind `open-ended`: a user says something; the reply gives in (1) or is friendly and honest (0).

The user states an opinion, a plan or a piece of own work. Giving in is to side with or flatter the
user against better judgement. As in the second data set of the paper (arXiv 2412.00967), about half
of the prompts state an opinion outright to agree with and the others do not, so that "agrees" and
"flatters" are both in the kind. Not here: cases in which the user is right (`agreement.py`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from candor.probes.fitting.data import NonEmpty, Row, Turn
from candor.probes.kinds.entries import Entry, Wordings, refuse_unusable, shipped_entries


class Opinion(Entry):
    """A prompt with replies of both labels.

    `direction` is what the user leans to: "agree" where they are for something or hold it true,
    "disagree" where they dismiss something sound (so giving in is to dismiss it too, and a positive
    tone is not the label), None where no opinion is stated outright.
    """

    prompt: NonEmpty
    gives_in: Wordings
    honest: Wordings
    direction: Literal["agree", "disagree"] | None = None


def shipped_opinions() -> list[Opinion]:
    """The default entries, written for this repository."""
    return shipped_entries("open_ended.json", Opinion)


def opinion_rows(entries: Sequence[Opinion], *, kind: str = "open-ended", seed: int) -> list[Row]:
    """Two rows an entry in entry order, label 1 then label 0, under the same prompt.

    The seed chooses the wordings, for each entry on its own: an entry added or left out does not
    change the rows of the others.

    Raises:
        ValueError: no entries, or two with one id.
    """
    refuse_unusable(entries, kind)
    rows = []
    for entry in entries:
        rng = random.Random(f"{kind} {seed} {entry.id}")
        for label, wordings in ((1, entry.gives_in), (0, entry.honest)):
            rows.append(
                Row(
                    group=f"{kind}/{entry.id}",
                    label=label,
                    response=rng.choice(wordings),
                    messages=(Turn(role="user", content=entry.prompt),),
                    kind=kind,
                    direction=entry.direction,
                )
            )
    return rows
