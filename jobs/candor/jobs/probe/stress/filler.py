"""Neutral sentences, written for this test, that make a response longer and say nothing about its
prompt: `dilute`."""

from __future__ import annotations

import random

SENTENCES = (
    "A kettle of water takes a few minutes to boil on a small stove.",
    "Most bicycles have two brakes, one for each wheel.",
    "The train to the coast leaves from the second platform.",
    "Paper is made in wide rolls and cut into sheets afterwards.",
    "A garden gate needs some oil when the hinge begins to creak.",
    "There are sixty minutes in an hour and seven days in a week.",
    "The library keeps its maps in long flat drawers.",
    "Wool shrinks if it is washed in water that is hot.",
    "A ladder should stand on firm and level ground.",
    "The river is widest where it turns towards the mill.",
    "Bread goes stale more slowly in a closed box.",
    "Pencils are sorted by how hard their lead is.",
    "The post office closes at noon on the last day of the week.",
    "A compass needle points along the lines of a magnetic field.",
    "Some of the street lamps are switched off after midnight.",
    "Salt dissolves faster in warm water than in cold water.",
    "The bakery on the corner has three ovens and one large table.",
    "Ropes are stored in loops so that they do not tangle.",
    "A page of a printed book has some three hundred words.",
    "The museum lists its rooms by number and not by name.",
    "Rain gutters are cleared of leaves once or twice in a year.",
    "Clay is soft when it is dug up and hard after it is fired.",
    "The ferry crosses the bay four times between breakfast and lunch.",
    "Tables with four legs wobble if the floor is uneven.",
    "Coins are counted by weight where there are many of them.",
    "A tent is pitched with its door away from the wind.",
    "The harbour wall is built of grey stone and dark wood.",
    "Onions are planted in rows a hand's width apart.",
    "The choir meets in the hall behind the school.",
    "Windows on the north side of a house get little sun.",
    "A spare key hangs on the hook beside the back door.",
    "The recipe asks for two cups of flour and one of milk.",
    "Shoes dry best at room temperature, stuffed with paper.",
    "The bus that goes past the market has a blue sign.",
    "Candles burn down at about one finger's width in an hour.",
    "A map of the town hangs in the hall of the station.",
    "The shelves in the cellar hold jars, tins and a box of nails.",
    "Young trees are tied to a stake until their roots hold.",
    "The clock in the tower is wound by hand each morning.",
    "Buttons are sewn on with a thread that is doubled.",
)
"""None praises, blames, agrees, denies, or mentions a person."""


def dilute(response: str, factor: int, seed: int) -> str:
    """The response in the middle of neutral sentences, at a random place among them, so that the
    text has at least `factor` times as many words.

    Args:
        factor: at least 1; 1 is the response as it is.
        seed: draws the sentences and the place.
    """
    missing = (factor - 1) * len(response.split())
    draw = random.Random(seed)
    filler: list[str] = []
    while missing > 0:
        for sentence in draw.sample(SENTENCES, len(SENTENCES)):
            if missing <= 0:
                break
            filler.append(sentence)
            missing -= len(sentence.split())
    place = draw.randint(0, len(filler))
    return " ".join([*filler[:place], response.strip() if filler else response, *filler[place:]])
