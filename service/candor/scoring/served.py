"""`Served`: the probes of a server, and which of them a caller may see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from candor.client.schema import Method
from candor.methods import SUBTRACT, Use
from candor.probes.artifact import LoadedProbe
from candor.probes.bound import Bound
from candor.probes.card import Calibration
from candor.probes.fitting.calibrate import lambda_of
from candor.probes.probe import Probe
from candor.probes.tilt import Threshold


@dataclass(frozen=True, slots=True)
class ServedProbe:
    """A loaded probe and its part in the reward.

    A monitor is scored and recorded only. It has no penalty, and callers can neither see nor set
    it. The threshold of `use` is set if and only if the method is `screen`.
    """

    loaded: LoadedProbe
    default_lambda: float
    monitor: bool = False
    use: Use = SUBTRACT
    bound: Bound = field(init=False)
    """The card's bound, ready to be called."""
    counted: Bound | Threshold = field(init=False)
    """What lambda multiplies: the bound, or the flag of `screen`."""
    method: Method = field(init=False)
    """How the probe is used."""

    def __post_init__(self) -> None:
        method, threshold = self.use.method, self.use.threshold
        assert (threshold is not None) == (method == "screen")
        bound = self.loaded.card.bound.build()
        object.__setattr__(self, "bound", bound)
        object.__setattr__(self, "counted", bound if threshold is None else Threshold(threshold))
        object.__setattr__(self, "method", method)

    @property
    def bounded(self) -> bool:
        """Whether the method uses bound(S): in the reward, or under `advantage` beside it."""
        return self.method in ("subtract", "advantage")

    @property
    def can_raise_reward(self) -> bool:
        """Whether a low S is paid: in the reward, or under `advantage` in the advantages."""
        return self.bounded and self.bound.can_raise_reward

    def lambda_of_kappa(self, kappa: float) -> float:
        """lambda in reward units: per logit; under `screen` the whole fine, kappa * std(R)."""
        return lambda_of_kappa(self.method, kappa, self.loaded.card.calibration)

    @property
    def neutral(self) -> float:
        """The S, in logits, at which the bound begins to count: what is reported for a response
        without a token."""
        return 0.0 if self.bound.reference is None else self.bound.reference


def lambda_of_kappa(method: Method, kappa: float, calibration: Calibration) -> float:
    """As `ServedProbe.lambda_of_kappa`."""
    if method == "screen":
        return kappa * calibration.std_R
    return lambda_of(kappa, calibration)


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
        self.methods: dict[str, Method] = {
            name: probe.method for name, probe in self.penalised.items()
        }
        """How each probe that a caller may see is used, in the order served."""

    @property
    def projected(self) -> frozenset[str]:
        """The probes whose directions are taken out of the model."""
        return frozenset(name for name, method in self.methods.items() if method == "project")

    @property
    def probes(self) -> dict[str, Probe]:
        """Every probe's weights by name, for the engine and for the drift windows."""
        return {name: served.loaded.probe for name, served in self.everything.items()}
