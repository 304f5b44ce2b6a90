"""`Served`: the probes of a server, and which of them a caller may see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from candor.probes.artifact import LoadedProbe
from candor.probes.bound import Bound
from candor.probes.probe import Probe


@dataclass(frozen=True, slots=True)
class ServedProbe:
    """A loaded probe and its part in the reward.

    A monitor is scored and recorded only. It has no penalty, and callers can neither see nor set
    it.
    """

    loaded: LoadedProbe
    default_lambda: float
    monitor: bool = False
    bound: Bound = field(init=False)
    """The card's bound, ready to be called."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bound", self.loaded.card.bound.build())

    @property
    def neutral(self) -> float:
        """The S, in logits, at which the bound begins to count: what is reported for a response
        without a token."""
        return 0.0 if self.bound.reference is None else self.bound.reference


class Served:
    """Every loaded probe by name. `penalised` alone decides which probes a caller sees.

    Args:
        probes: by name, in the order served; monitors included.
    """

    def __init__(self, probes: Mapping[str, ServedProbe]) -> None:
        self.everything = dict(probes)
        self.penalised = {name: probe for name, probe in probes.items() if not probe.monitor}
        """The probes that may be in a reward, in an answer, and in an error message."""
        self.monitors = frozenset(self.everything.keys() - self.penalised.keys())

    @property
    def probes(self) -> dict[str, Probe]:
        """Every probe's weights by name, for the engine and for the drift windows."""
        return {name: served.loaded.probe for name, served in self.everything.items()}
