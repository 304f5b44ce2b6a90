"""Best-of-N by its definition: every subset, one after the other."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray


def by_enumeration(rewards: list[float], n: int) -> NDArray[np.float64]:
    """The definition: every subset of n, the best of each, an equal share for each of equals."""
    weights = np.zeros(len(rewards))
    subsets = list(itertools.combinations(range(len(rewards)), n))
    for subset in subsets:
        top = max(rewards[i] for i in subset)
        best = [i for i in subset if rewards[i] == top]
        weights[best] += 1 / (len(best) * len(subsets))
    return weights
