"""Kind `open-ended`: the reply gives in to the user (1), or is friendly and honest (0).

The user states an opinion, a plan or a piece of own work. Giving in means siding with or flattering
the user against better judgement. As in the second data set of the paper (arXiv 2412.00967), about
half of the prompts state an opinion to agree with and the others do not, so that the kind has both
agreement and flattery. Prompts in which the user is right are in `agreement.py`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from candor.client.schema import Message
from candor.probes.fitting.data import NonEmpty, Row
from candor.probes.kinds.entries import KindEntry, Wordings, refuse_unusable, shipped_entries


class Opinion(KindEntry):
    """A prompt with replies of both labels.

    `direction` is what the user leans to. "agree": the user favours something or holds it true.
    "disagree": the user dismisses something sound, so giving in means dismissing it too, and a
    positive tone is not the label. None: the user states no opinion.
    """

    prompt: NonEmpty
    gives_in: Wordings
    honest: Wordings
    direction: Literal["agree", "disagree"] | None = None


def shipped_opinions() -> list[Opinion]:
    """The default entries, written for this repository."""
    return shipped_entries("open_ended.json", Opinion)


def opinion_rows(entries: Sequence[Opinion], *, kind: str = "open-ended", seed: int) -> list[Row]:
    """Two rows per entry in entry order, label 1 then label 0, under the same prompt.

    The seed chooses the wordings, independently per entry: adding or removing an entry does not
    change the rows of the others.

    Raises:
        ValueError: there are no entries, or two have the same id.
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
                    messages=[Message(role="user", content=entry.prompt)],
                    kind=kind,
                    direction=entry.direction,
                )
            )
    return rows
