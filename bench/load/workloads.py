"""The texts that are scored: random words from a list of our own, drawn from a seed.

The texts are not language: a forward pass costs the same for words in any order. They are fresh in
every repetition, so that no arm's prefix cache carries over from one repetition to the next.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_WORDS = """
    about above after again along always among answer apple around ask autumn away back bank barn
    be bean because begin bell below bird black blue boat book both bread bridge bright bring broad
    brown build but by call came candle carry chair change child city clear cloud coast cold come
    corn could country cover cross cut dark day deep did door down draw dream dry dust each early
    earth east easy edge else end even every eye face fair fall far farm fast feather few field fill
    find fire first fish five floor flower follow food for forest four fresh friend from front fruit
    full garden gate give glass go gold good grain grass great green ground grow half hand harbour
    hard have hear heart heavy help her here high hill hold home honey hope horse hour house how
    hundred ice idea iron island join journey just keep kind kitchen know lake lamp land large last
    late laugh lead leaf learn leave left less letter light like line listen little live long look
    low made make many map march mark meadow mean measure meet milk mill mind mirror moon more
    morning most mother mountain move much music must name near never new next night no north note
    nothing now number ocean of off often old once one only open orange orchard other our out over
    own page paint paper part path pear people piece place plain plant play point pond poor press
    quick quiet rain read ready red rest rice ride right ring river road roof room root rope round
    row run sail salt sand say school sea season second see seed send seven shade shape sharp sheep
    shell ship shore short show side silver simple sing six sky sleep slow small smoke snow soft
    soil some song soon sound south space speak spring stand star start stay step still stone story
    straight stream street strong summer sun sure sweet table take talk tall teach tell ten than
    that the their then there thin thing think third this thought thread three through time to
    today together tower town track trade travel tree true try turn two under until up use valley
    very view village voice wait walk wall want warm wash watch water wave way weather week well
    west wheat wheel when where which while white who why wide wild will wind window winter wish
    with wonder wood wool word work world write year yellow yes yet young
    """

WORDS = tuple(_WORDS.split())

GROUP_SIZE = 16
"""Responses to one prompt in `groups`."""


@dataclass(frozen=True, slots=True)
class BenchText:
    """An item as text: its tokens are those of `context + response`. Items with the same context
    have the same `group` number."""

    group: int
    context: str
    response: str


Wrap = Callable[[str], str]
"""From a user's words to the context with the chat template already applied."""


def unique(draw: random.Random, num_items: int, wrap: Wrap) -> list[BenchText]:
    """Prompts and responses of 16 to 200 words; every prompt has a single response."""
    return [
        BenchText(number, wrap(_words(draw, 16, 200)), _words(draw, 16, 200))
        for number in range(num_items)
    ]


def groups(draw: random.Random, num_items: int, wrap: Wrap) -> list[BenchText]:
    """Prompts of 150 to 250 words, each with 16 responses of 20 to 100 words. The groups come one
    after the other, as a trainer finishes its prompts."""
    texts = []
    for number in range(num_items // GROUP_SIZE):
        context = wrap(_words(draw, 150, 250))
        texts += [BenchText(number, context, _words(draw, 20, 100)) for _ in range(GROUP_SIZE)]
    return texts


def short(draw: random.Random, num_items: int, wrap: Wrap) -> list[BenchText]:
    """Prompts and responses of 16 to 48 words: short enough for hundreds of arrivals per minute on
    a CPU. With fewer arrivals, a 99th percentile would rest on a single request."""
    return [
        BenchText(number, wrap(_words(draw, 16, 48)), _words(draw, 16, 48))
        for number in range(num_items)
    ]


WORKLOADS: dict[str, Callable[[random.Random, int, Wrap], list[BenchText]]] = {
    "groups": groups,
    "unique": unique,
    "open": short,
}


def draw(workload: str, seed: Sequence[object], num_items: int, wrap: Wrap) -> list[BenchText]:
    """The texts of one measurement: the same `seed` gives the same texts."""
    name = "/".join(map(str, [workload, *seed]))
    return WORKLOADS[workload](random.Random(name), num_items, wrap)


def _words(draw: random.Random, low: int, high: int) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(low, high)))
