"""How many units a claim needs, and what a run of so many units can tell.

The unit and its figure are those of the claim: for a best-of-N table the paired difference of one
prompt, for RL the paired difference of one seed.
"""

from __future__ import annotations

import math

from scipy.special import nctdtr, ndtri, stdtrit

SIGNIFICANCE, POWER = 0.05, 0.80


def smallest_difference(std: float, num_units: int) -> float:
    """The mean difference that `num_units` units tell from 0 in 80 % of runs.

    By a two-sided t-test at 5 %, which is a 95 % t interval that leaves 0 out.

    Args:
        std: standard deviation of the paired difference of one unit, at least 0.

    Raises:
        ValueError: there are fewer than two units.
    """
    if num_units < 2:
        raise ValueError(f"a spread needs two units, not {num_units}")
    degrees = num_units - 1
    at = stdtrit(degrees, 1 - SIGNIFICANCE / 2)
    low, high = 0.0, float(at + 50)  # the noncentrality at which the power is 0.8
    for _ in range(60):
        middle = (low + high) / 2
        if 1 - nctdtr(degrees, middle, at) < POWER:
            low = middle
        else:
            high = middle
    return std * high / math.sqrt(num_units)


def units_needed(std: float, difference: float) -> int:
    """How many units tell a mean difference of this size from 0 in 80 % of runs; at least 2.

    Args:
        std: as in `smallest_difference`.
        difference: above 0.

    Raises:
        ValueError: the difference is not above 0.
    """
    if not difference > 0:
        raise ValueError(f"a difference to be told from 0 must be above 0, not {difference}")
    normal = float(ndtri(1 - SIGNIFICANCE / 2) + ndtri(POWER))
    # The normal approximation asks for one to four units too few: the exact number is just above.
    units = max(2, math.floor((normal * std / difference) ** 2))
    while smallest_difference(std, units) > difference:
        units += 1
    return units
