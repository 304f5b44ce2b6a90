"""The offline judge: which of two comments is more positive, by VADER's compound score.

VADER (Hutto & Gilbert, 2014; `vaderSentiment` 3.3.2) is a lexicon, not a reader: it stands where
the paper asks GPT-4 "which comment is more positive" (arXiv 2412.00967, evaluation). It needs no
network. The reward model never sees its verdicts; the probe does, since half of its rows are
samples labelled by it, on other poems (`demo.draws`). Its weakness is known: an AUROC of about 0.71
on review sentences, and exact ties, which count as half here.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

NAME = "VADER 3.3.2 compound"


@cache
def _analyzer() -> SentimentIntensityAnalyzer:
    return SentimentIntensityAnalyzer()


def sentiment(text: str) -> float:
    """Valence of `text` in [-1, 1]; 0 where no word is in the lexicon."""
    return float(_analyzer().polarity_scores(text)["compound"])


def wins(sentiments: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M,) against (K,) -> (M, K): 1 where the row's text is more positive, 0.5 at ties, else 0."""
    difference = np.subtract.outer(sentiments, reference)
    won: NDArray[np.float64] = (difference > 0) + 0.5 * (difference == 0)
    return won
