"""The word list of a probe: a bag of words fitted on the probe's own training rows, and how well it
does on the rows that the probe is judged by.

It is the control for "a regex could do that": same rows, same labels, same split, and only the
words of the response (`candor.jobs.compare.words`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from candor.jobs.compare.words import WordList, terms
from candor.jobs.probe.material import LabelledRows
from candor.probes.fitting import evaluate
from candor.probes.fitting.data import Row, data_sha256

MAX_TERMS = 2000
"""The most frequent words and pairs; the file stays below 100 kB."""
MAX_ITERATIONS = 2000


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
    labels = np.array([rows[index].label for index in train])
    counter = CountVectorizer(analyzer=terms, binary=True, max_features=MAX_TERMS)
    try:
        counts = counter.fit_transform(texts)
    except ValueError:  # no response has a word, as with replies of figures or signs alone
        weights, bias = {}, 0.0
    else:
        regression = LogisticRegression(max_iter=MAX_ITERATIONS).fit(counts, labels)
        names = counter.get_feature_names_out()
        weights = {
            str(name): round(float(weight), 6)
            for name, weight in zip(names, regression.coef_[0], strict=True)
        }
        bias = round(float(regression.intercept_[0]), 6)
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
