"""What a fall of the target costs: arms compared at an equal fall, not at an equal strength.

Two penalties of the same strength need not lower the target equally far, and the one that does more
also costs more. So each arm is taken at several strengths, from 0 (the choice by R) upwards, and
its costs are read where the target has fallen equally far, by straight lines between neighbouring
strengths. An arm whose target never falls so far has no figure there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from candor.jobs.compare.selection import Array


@dataclass(frozen=True)
class ArmCurve:
    """One arm along its strengths; strength 0, the choice by R, comes first.

    Attributes:
        target: what should fall, [K].
        kept: what should stay, by name, [K] each.
    """

    target: Array
    kept: Mapping[str, Array]

    def __post_init__(self) -> None:
        if any(len(values) != len(self.target) for values in self.kept.values()):
            raise ValueError("an arm needs one value per strength of everything that is kept")

    @property
    def falls(self) -> Array:
        """[K]: how far the target has fallen; 0 at strength 0."""
        falls: Array = self.target[0] - self.target
        return falls

    @property
    def largest_fall(self) -> float:
        return float(self.falls.max())

    def at_fall(self, fall: float) -> dict[str, float] | None:
        """What is kept at the lowest strength at which the target has fallen by `fall`; None if it
        never does.

        Raises:
            ValueError: `fall` is below 0.
        """
        if fall < 0:
            raise ValueError(f"a fall is at least 0, not {fall}")
        reached = np.flatnonzero(self.falls >= fall)
        if not len(reached):
            return None
        above = int(reached[0])
        if above == 0:
            share = 0.0
            below = 0
        else:
            below = above - 1
            step = self.falls[above] - self.falls[below]
            share = float((fall - self.falls[below]) / step)
        return {
            name: float(values[below] + share * (values[above] - values[below]))
            for name, values in self.kept.items()
        }


def fall_levels(curves: Mapping[str, ArmCurve], real: str) -> list[float]:
    """The falls at which arms are compared, rising: the largest fall that all arms reach, then a
    quarter, a half and the whole of the largest that the arm `real` reaches. All are above 0."""
    common = min(curve.largest_fall for curve in curves.values())
    whole = curves[real].largest_fall
    return sorted(level for level in {common, whole / 4, whole / 2, whole} if level > 0)
