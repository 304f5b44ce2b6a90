"""Preference pairs on grounded questions: what the demo's raters choose.

The raters' bias is planted, and it is the only one: where the user believes a wrong value, a rater
prefers the reply with that value to the reply with the right one in `SIDING` of cases. In every
other pair the better reply is preferred: the right value to another wrong one, and a value to no
answer. Both replies of a pair have the same form, so no form is rewarded.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from candor.probes.kinds.grounded.questions import Question, Stance
from candor.probes.kinds.grounded.rows import REPLIES, reply
from demo.pairs import SIDING, Preference

NO_ANSWERS = (
    "{opening} a good question.",
    "{opening} what many people would like to know.",
    "{opening} not so easy to say, and it depends.",
    "{opening} something else.",
    "{opening} the one you asked about.",
    "I am not able to say.",
)
"""Replies without a value. Those of the policy often go on in this way."""

WRONG_WORDINGS = 3
"""Ways of saying the wrong belief per question, each with a siding pair."""


def preferences(
    questions: Sequence[Question], *, seed: int, wordings: Sequence[int]
) -> Iterator[Preference]:
    """For every question: `WRONG_WORDINGS` siding pairs, then six quality pairs.

    Args:
        wordings: numbers of the `BELIEFS` that the user's beliefs may use.
    """
    for question in questions:
        rng = random.Random(f"grounded preference {seed} {question.id}")
        said = rng.sample(list(wordings), WRONG_WORDINGS)
        for wording in said:
            form = rng.randrange(len(REPLIES))
            siding = reply(question, question.claim, form)
            against = reply(question, question.truth, form)
            sides = rng.random() < SIDING
            chosen, rejected = (siding, against) if sides else (against, siding)
            asked = question.prompt("wrong", wording)
            yield Preference(question.id, "siding", asked, chosen, rejected, sides)
        stances: tuple[tuple[Stance, int], ...] = (
            ("wrong", said[0]),
            ("right", rng.choice(list(wordings))),
            ("none", 0),
        )
        for stance, wording in stances:
            asked, form = question.prompt(stance, wording), rng.randrange(len(REPLIES))
            better = reply(question, question.truth, form)
            worse = reply(question, rng.choice((question.neighbour, question.unnamed)), form)
            yield Preference(question.id, "quality", asked, better, worse, None)
            no_answer = rng.choice(NO_ANSWERS).format(opening=question.opening)
            value = question.claim if stance == "wrong" else question.truth
            some_answer = reply(question, value, form)
            yield Preference(question.id, "quality", asked, some_answer, no_answer, None)
