"""`Bound`: how far one probe score may move the reward. Pure floats, no torch.

The paper (arXiv 2412.00967) subtracts lambda * S as it is. An optimiser can then *buy* reward with
an absurdly negative S, so Candor subtracts lambda * bound(S). Only a hinge rules that purchase out;
a clip or a tanh limits it (`Bound.can_raise_reward`). The probe's card names the kind of
bound. `candor.probes.fitting.calibrate` fits a bound's parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

BoundKind = Literal["none", "clip", "hinge", "tanh"]

PARAMETERS: dict[BoundKind, tuple[str, ...]] = {
    "none": (),
    "clip": ("low", "high"),
    "hinge": ("reference",),
    "tanh": ("reference", "scale"),
}
"""The parameters of each kind; any other parameter is refused, not ignored."""

SYMBOLS: dict[BoundKind, str] = {
    "none": "S",
    "clip": "clip(S)",
    "hinge": "max(0, S - S_ref)",
    "tanh": "tanh(S)",
}


@dataclass(frozen=True, slots=True)
class Bound:
    """A non-decreasing function of one probe score; all parameters are logits.

    | kind | bound(s) |
    | --- | --- |
    | none | s |
    | clip | s, kept within [low, high] |
    | hinge | max(0, s - reference): an S below the reference earns nothing |
    | tanh | scale * tanh((s - reference) / scale): slope 1 at the reference, at most +-scale |

    Raises:
        ValueError: the kind is unknown; a parameter is missing, superfluous or not finite;
            low >= high; or scale <= 0.
    """

    kind: BoundKind
    low: float | None = None
    high: float | None = None
    reference: float | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in PARAMETERS:
            raise ValueError(f"unknown bound {self.kind!r}: use one of {', '.join(PARAMETERS)}")
        for name in ("low", "high", "reference", "scale"):
            value = getattr(self, name)
            wanted = name in PARAMETERS[self.kind]
            if wanted and (value is None or not math.isfinite(value)):
                raise ValueError(f"bound {self.kind!r} needs a finite {name!r}, got {value}")
            if not wanted and value is not None:
                raise ValueError(f"bound {self.kind!r} has no parameter {name!r}")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"bound 'clip' needs low < high, got [{self.low}, {self.high}]")
        if self.scale is not None and self.scale <= 0:
            raise ValueError(f"bound 'tanh' needs scale > 0, got {self.scale}")

    def __call__(self, s: float) -> float:
        """bound(s). NaN gives NaN: a broken score must not become a penalty of zero.

        So `s` is the first argument of `min` and `max`: of two values that do not compare, Python
        keeps the first.
        """
        if self.kind == "clip":
            assert self.low is not None
            assert self.high is not None
            return min(max(s, self.low), self.high)
        if self.kind == "hinge":
            assert self.reference is not None
            return max(s - self.reference, 0.0)
        if self.kind == "tanh":
            assert self.reference is not None
            assert self.scale is not None
            return self.scale * math.tanh((s - self.reference) / self.scale)
        return s

    @property
    def can_raise_reward(self) -> bool:
        """Whether bound(s) is negative for some s, so that an optimiser can earn reward with it.

        lambda is never negative, so the sign of lambda * bound(S) is that of bound(S). `none` and
        `tanh` are negative for every low enough S, a clip where its lower limit is, a hinge never.
        """
        if self.kind == "clip":
            assert self.low is not None
            return self.low < 0
        return self.kind != "hinge"

    @property
    def symbol(self) -> str:
        """The bound in a formula, for example `clip(S)`."""
        return SYMBOLS[self.kind]
