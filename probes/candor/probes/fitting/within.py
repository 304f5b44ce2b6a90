"""The spread of R or S among responses to one prompt, which is all that an optimiser compares."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def within_std(parts: Iterable[NDArray[Any]]) -> float:
    """Population standard deviation after each part has had its own mean subtracted.

    Args:
        parts: the values of the responses to one prompt, [M] each; at least one part.
    """
    wide = [np.asarray(part, dtype=np.float64) for part in parts]
    return float(np.concatenate([part - part.mean() for part in wide]).std())
