"""The word list of a probe: a bag of words fitted on the probe's own training rows, and how well it
does on the rows that the probe is judged by.

It is the control for "a regex could do that": same rows, same labels, same split, and only the
words of the response (`candor.jobs.compare.words`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from candor.jobs.compare.words import WordList, terms
from candor.jobs.probe.material import LabelledRows
from candor.jobs.probe.stress.bag import fit_bag
from candor.probes.fitting import evaluate
from candor.probes.fitting.data import Row, data_sha256

MAX_TERMS = 2000
"""The most frequent words and pairs; the file stays below 100 kB."""


def text_of(row: Row) -> str:
    """The response's text; of a message with several parts or tool calls, what was sent."""
    response = row.response
    return response if isinstance(response, str) else str(response.as_sent())


def fit_words(rows: Sequence[Row], train: Sequence[int]) -> WordList:
    """Logistic regression (L2, C = 1) on the presence of words and pairs in the responses.

    Args:
        rows: all labelled rows, which the hash is of.
        train: the rows to fit on, of both labels.
    """
    texts = [text_of(rows[index]) for index in train]
    labels = [rows[index].label for index in train]
    bag = fit_bag(texts, labels, analyzer=terms, max_features=MAX_TERMS)
    weights, bias = {}, 0.0
    if bag is not None:
        weights = {
            term: round(float(weight), 6)
            for term, weight in zip(bag.terms, bag.weights, strict=True)
        }
        bias = round(bag.bias, 6)
    return WordList(data_sha256=data_sha256(rows), num_rows=len(train), bias=bias, weights=weights)


def words_control(
    data: LabelledRows, test: Sequence[int], seed: int
) -> tuple[WordList, dict[str, Any]]:
    """The word list of the training rows, and its figures on the test rows as the probe has them:
    over all kept kinds, and by kind (those that were held out of the fit included)."""
    words = fit_words(data.rows, list(data.labelled.train))
    scores = words.scores(text_of(row) for row in data.rows)

    def part(rows: list[int]) -> dict[str, Any]:
        return evaluate.summarise(
            scores[rows], data.labels[rows], data.contexts(rows), data.groups(rows), seed=seed
        )

    kinds = {
        kind: found["auroc"]
        for kind in sorted({data.rows[index].kind for index in test})
        for found in [part(data.of_kind(kind, test))]
    }
    return words, {**part(data.kept(test)), "kind_aurocs": kinds}
