"""`Served`: the probes of a server, and which of them a caller may see. `LiveProbes`: the set that
is served now, and the sets that requests in flight began with.

A set never changes. When a probe is replaced, a new set takes the old one's place in one step of
the event loop, and the engine reads both until the last request that began with the old set has
ended. So a request is scored by one set from its first response to its last.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from candor.client.schema import Method
from candor.item import Engine, Scored
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
    column: str | None = None
    """The name by which the engine reads this probe, where that is not its own: a probe that took
    another's place has the same name."""
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
        self.sha256 = _set_sha256(self.penalised)
        """Hash of the penalised probes and their lambdas, in order. Monitors are not in it, because
        callers see it."""
        self._renamed = any(probe.column is not None for probe in probes.values())

    @property
    def projected(self) -> frozenset[str]:
        """The probes whose directions are taken out of the model."""
        return frozenset(name for name, method in self.methods.items() if method == "project")

    @property
    def probes(self) -> dict[str, Probe]:
        """Every probe's weights by name, for the drift windows."""
        return {name: served.loaded.probe for name, served in self.everything.items()}

    @property
    def columns(self) -> dict[str, Probe]:
        """Every probe's weights by the name that the engine knows, for the engine."""
        return {
            column: probe if column == name else replace(probe, name=column)
            for name, served in self.everything.items()
            for column, probe in [(served.column or name, served.loaded.probe)]
        }

    def versions(self) -> dict[str, dict[str, int | str]]:
        """The version and the hash of each penalised probe, for answers."""
        return {
            name: {"version": served.loaded.card.version, "sha256": served.loaded.sha256}
            for name, served in self.penalised.items()
        }

    def all_versions(self) -> dict[str, tuple[int, str, bool]]:
        """By probe: version, sha256, and whether it is a monitor. For the operator."""
        return {
            name: (served.loaded.card.version, served.loaded.sha256, served.monitor)
            for name, served in self.everything.items()
        }

    def with_probe(self, probe: ServedProbe) -> Served:
        """The set in which this probe has the place of the served probe of its name: as a monitor
        if that one is a monitor."""
        name, column = probe.loaded.card.name, f"{probe.loaded.card.name}@{probe.loaded.sha256}"
        if self.everything[name].monitor:
            probe = ServedProbe(probe.loaded, 0.0, monitor=True)
        return Served(self.everything | {name: replace(probe, column=column)})

    def pick(self, scored: Scored) -> Scored:
        """The same score with this set's readings only, by the probes' own names."""
        readings = scored.score.readings
        if not self._renamed and len(readings) == len(self.everything):
            return scored
        own = {name: readings[probe.column or name] for name, probe in self.everything.items()}
        return replace(scored, score=replace(scored.score, readings=own))


class LiveProbes:
    """The set of probes that is served now. All methods run in the event loop.

    Args:
        served: the first set; the engine reads it already.
    """

    def __init__(self, served: Served, engine: Engine) -> None:
        self.now = served
        self.replacing = asyncio.Lock()
        """Held while a probe is being replaced: one at a time."""
        self._engine = engine
        self._held: Counter[Served] = Counter()

    @contextmanager
    def held(self, served: Served | None = None) -> Iterator[Served]:
        """A set that the engine reads until the block ends: by default the set that is served now.

        Raises:
            ValueError: the engine cannot read it.
        """
        held = served or self.now
        self._held[held] += 1
        try:
            if held is not self.now:
                self._read()
            yield held
        finally:
            self._held[held] -= 1
            if not self._held[held]:
                del self._held[held]
                if held is not self.now:
                    self._read()

    def serve(self, served: Served) -> None:
        """Serves this set, which must be held, from now on."""
        if served not in self._held:
            raise ValueError("the engine must read a set before it is served")
        self.now = served
        self._read()

    def _read(self) -> None:
        columns: dict[str, Probe] = {}
        for served in (self.now, *self._held):
            columns |= served.columns
        self._engine.read_probes(list(columns.values()))


def _set_sha256(penalised: Mapping[str, ServedProbe]) -> str:
    parts = [[name, probe.loaded.sha256, probe.default_lambda] for name, probe in penalised.items()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
