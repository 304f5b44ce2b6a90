"""The filter test: the probe on test responses without their tell-tale words.

Probes often rely on words that give a trait away, and lose much of their AUROC without them (arXiv
2509.21344). The words are those that a bag of words, fitted on the training responses, weighs most.
The control takes out as many other words of like frequency that say little.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from candor.jobs.probe.material import LabelledRows
from candor.jobs.probe.reader import RowReader
from candor.jobs.probe.stress.bag import fit_bag
from candor.jobs.probe.stress.changed import Change, auroc_of, change, drawn, scored
from candor.probes.probe import Probe

NUM_WORDS = 20
MIN_ROWS_OF_WORD = 5
"""Training rows that a word must stand in: a rarer one says little about the others."""
ROWS_PER_LABEL = 200
WORD = r"(?u)\b\w[\w']*\b"


@dataclass(frozen=True)
class Words:
    """Words of the training responses.

    Attributes:
        telling: those of the largest |weight| in the bag of words, the largest first, with the
            weight; above 0 where the word speaks for the trait.
        control: as many others: for each, the word nearest in frequency among the half of the
            vocabulary with the smallest |weight|.
    """

    telling: dict[str, float]
    control: list[str]


def find_words(texts: Sequence[str], labels: Sequence[int]) -> Words:
    """The words of a logistic regression on which words a response has; none where no word stands
    in `MIN_ROWS_OF_WORD` responses."""
    bag = fit_bag(texts, labels, token_pattern=WORD, min_df=MIN_ROWS_OF_WORD)
    if bag is None:
        return Words({}, [])
    names, weights, frequencies = bag.terms, bag.weights, bag.counts
    order = np.argsort(-np.abs(weights), kind="stable")
    telling = order[: min(NUM_WORDS, len(order) // 2)]
    free = list(order[-(len(order) // 2) :])
    control = []
    for word in telling:
        nearest = min(free, key=lambda other: abs(frequencies[other] - frequencies[word]))
        free.remove(nearest)
        control.append(names[nearest])
    return Words({names[word]: float(weights[word]) for word in telling}, control)


def without(text: str, words: Iterable[str]) -> str:
    """The text without these words, in any case, and without the space that each leaves."""
    known = frozenset(words)
    left = re.sub(WORD, lambda found: "" if found.group().lower() in known else found.group(), text)
    return re.sub(r"[ \t]+", " ", left).strip(" ")


def telltale(
    data: LabelledRows, reader: RowReader, probe: Probe, test: Sequence[int], seed: int
) -> dict[str, Any]:
    """The report's key `telltale`.

    Args:
        test: the test rows of the kinds that the probe was fitted on.
    """
    train = [index for index in data.labelled.train if isinstance(data.rows[index].response, str)]
    texts = [str(data.rows[index].response) for index in train]
    words = find_words(texts, data.labels[train].tolist())
    changes: dict[str, Change] = {
        "as they are": lambda index, text: text,
        "without tell-tale words": lambda index, text: without(text, words.telling),
        "without other words": lambda index, text: without(text, words.control),
    }
    changed = change(data, reader, drawn(data, test, ROWS_PER_LABEL, seed), changes)
    found = {}
    for name in changes:
        scores = scored(reader, changed, name, probe, [probe.pooling])[probe.pooling]
        found[name] = auroc_of(data, changed.rows, scores, seed)
    touched = {
        name: sum(
            make(index, str(data.rows[index].response)) != data.rows[index].response
            for index in changed.rows
        )
        for name, make in changes.items()
    }
    return {
        "num_rows": len(changed.rows),
        "num_left_out": changed.num_left_out,
        "words": words.telling,
        "control_words": words.control,
        "arms": [{"name": name, "num_changed": touched[name], **found[name]} for name in changes],
    }
