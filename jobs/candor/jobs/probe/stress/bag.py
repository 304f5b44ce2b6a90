"""A bag of words: the logistic regression on which terms a response has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

MAX_ITERATIONS = 2000


@dataclass(frozen=True, eq=False)
class Bag:
    """A fitted bag of words.

    Attributes:
        terms: in alphabetic order.
        weights: of each term, [n] float64, in logits.
        counts: texts that have each term, [n].
    """

    terms: list[str]
    weights: NDArray[np.float64]
    counts: NDArray[np.int64]
    bias: float


def fit_bag(texts: Sequence[str], labels: Sequence[int], **terms: Any) -> Bag | None:
    """Logistic regression (L2, C = 1) on the presence of terms; None where no text has one.

    Args:
        labels: of each text, both of 0 and 1.
        terms: what a term is and which are kept, in `CountVectorizer`'s words.
    """
    counter = CountVectorizer(binary=True, **terms)
    try:
        counts = counter.fit_transform(texts)
    except ValueError:  # no such term, as in replies of figures or signs alone
        return None
    regression = LogisticRegression(max_iter=MAX_ITERATIONS).fit(counts, labels)
    return Bag(
        terms=[str(name) for name in counter.get_feature_names_out()],
        weights=regression.coef_[0],
        counts=np.asarray(counts.sum(axis=0))[0],
        bias=float(regression.intercept_[0]),
    )
