"""Two windows over the answered responses, and how far the newer has drifted from the older.

The reference window is the first `window` responses, or comes from a file. The current window
slides over the last `window` responses after that. Statistics are computed on demand: for `GET
/v1/drift`, for a scrape of the metrics, and every `WATCH_INTERVAL_S` for the log. The windows are
compared once the current window is full, because the PSI of few values is high even without drift
(`candor.probes.drift`).

Only answered requests are recorded, not the texts of the health check. Recorded are R and S, never
the reward, so penalties that a request overrides change nothing here.

Each probe has windows of its own, beside those of R and the length: when a probe is replaced while
serving, its windows begin again and the others go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from candor import logs
from candor.errors import NotReady
from candor.item import Score
from candor.probes.drift import ks_distance, mean_shift, psi
from candor.probes.probe import Probe
from candor.watch.alarms import NEEDS_MONITOR, RULES, Movement, Rule, reasons
from candor.watch.drift_reference import DriftReference, ScoresIdentity, WindowRows, probe_sha256
from candor.watch.drift_report import DriftAlarm, DriftReport, DriftSignal, Spread
from candor.watch.window_pair import WindowPair
from candor.watch.windows import DEFAULT_WINDOW

log = logs.get(__name__)

WATCH_INTERVAL_S = 30.0
"""How often alarms are computed for the log."""

BASE = ""
"""The pair of windows that belongs to no probe; no probe has an empty name."""
BASE_COLUMNS = ("base_reward", "response_tokens")

Signals = Mapping[str, NDArray[np.float64]]
Alarms = dict[tuple[str, Rule], str | None]
"""(probe, rule) -> the reason why the rule fires for the penalised probe; None if it does not."""


class Drift:
    """The windows of one server. All methods run in the event loop.

    Args:
        weights_sha256, template_sha256: hashes of the served model's weights and chat template.
        probes: every served probe by name, monitors included.
        monitors: the names of the monitors.
        projected: the names of the probes whose directions are taken out of the model.
        window: responses in the current window, and in a reference taken from traffic.
        reference: used in place of the first `window` responses; of any length.

    Raises:
        UsageError: `reference` belongs to another model, template or set of probes.
    """

    def __init__(
        self,
        *,
        weights_sha256: str,
        template_sha256: str,
        probes: Mapping[str, Probe],
        monitors: frozenset[str] = frozenset(),
        projected: frozenset[str] = frozenset(),
        window: int = DEFAULT_WINDOW,
        reference: DriftReference | None = None,
    ) -> None:
        self.window = window
        self._names = tuple(probes)
        self._monitors = tuple(name for name in probes if name in monitors)
        self._weights_sha256, self._template_sha256 = weights_sha256, template_sha256
        self._probe_sha256 = {
            name: probe_sha256(probe, projected=name in projected) for name, probe in probes.items()
        }
        pairs = {BASE: BASE_COLUMNS} | {name: _columns(name) for name in probes}
        rows: dict[str, WindowRows] = {}
        self._source: Literal["traffic", "file"] = "traffic"
        if reference is not None:
            self._source = "file"
            reference.check(self._identity, [name for each in pairs.values() for name in each])
            rows = {name: reference.rows(columns) for name, columns in pairs.items()}
        self._pairs = {
            name: WindowPair(columns, window, rows.get(name)) for name, columns in pairs.items()
        }
        self._alarms: Alarms = self._no_alarms()
        self._report: DriftReport | None = None
        """The report on all recorded responses; None after a new response."""

    @property
    def _identity(self) -> ScoresIdentity:
        return ScoresIdentity(self._weights_sha256, self._template_sha256, self._probe_sha256)

    def record(self, score: Score, num_response_tokens: int) -> None:
        """Adds one answered response; constant time and memory.

        Args:
            score: without the readings of a probe that has been replaced meanwhile.
        """
        if self._pairs[BASE].record((score.base_reward, num_response_tokens)):
            log.info("drift_reference", num=self.window)
        for name, reading in score.readings.items():
            self._pairs[name].record((reading.score, reading.mean, reading.max))
        self._report = None

    def restart(self, probe: Probe) -> None:
        """Begins the windows of this probe's name again: its S is another number from now on."""
        self._probe_sha256[probe.name] = probe_sha256(probe)
        self._pairs[probe.name].restart()
        self._report = None

    def report(self) -> DriftReport:
        """Both windows, signal by signal, and the alarms. Logs each alarm that begins or ends."""
        if self._report is None:
            self._report = self._compute()
        return self._report

    def reference_json(self) -> bytes:
        """The reference window as JSON, the input of `--drift-reference`.

        Raises:
            NotReady: the reference window is not full.
        """
        empty = [pair for pair in self._pairs.values() if not pair.has_reference]
        if empty:
            num = min(pair.num_reference for pair in empty)
            raise NotReady(
                f"the reference window holds {num} of {self.window} responses", retry_after_s=60
            )
        columns = {
            name: values.astype(np.float32)
            for pair in self._pairs.values()
            for name, values in pair.reference().items()
        }
        shortest = min(map(len, columns.values()))  # a window that began again may be shorter
        return orjson.dumps(
            {
                "version": 1,
                "weights_sha256": self._weights_sha256,
                "template_sha256": self._template_sha256,
                "probes": self._probe_sha256,
                "columns": {name: values[:shortest] for name, values in columns.items()},
            },
            option=orjson.OPT_SERIALIZE_NUMPY,
        )

    async def watch(self, every_s: float = WATCH_INTERVAL_S) -> None:
        """Computes a report again and again, so that alarms reach the log without a request.

        At its end the log says if nothing was ever compared: no alarm could fire then.
        """
        try:
            while True:
                await asyncio.sleep(every_s)
                self.report()
        finally:
            at_start = self.window * (2 if self._source == "traffic" else 1)
            if 0 < self.num_missing < at_start:
                log.info(
                    "drift_never_compared",
                    num_missing=self.num_missing,
                    message="no alarm could fire: too few responses were answered; give a shorter "
                    "--drift-window, or a --drift-reference from earlier traffic",
                )

    @property
    def num_missing(self) -> int:
        """Responses that must still be recorded before anything is compared."""
        return max(pair.num_missing for pair in self._pairs.values())

    def _no_alarms(self) -> Alarms:
        penalised = [name for name in self._names if name not in self._monitors]
        rules = [rule for rule in RULES if self._monitors or rule not in NEEDS_MONITOR]
        return {(name, rule): None for name in penalised for rule in rules}

    def _compute(self) -> DriftReport:
        signals: dict[str, DriftSignal] = {}
        moved: dict[str, Movement] = {}
        for name, pair in self._pairs.items():
            before, after = _signals(name, pair.reference()), _signals(name, pair.current())
            signals |= _drift_signals(before, after, pair.is_full)
            if pair.is_full and name != BASE:
                moved[name] = _movement(name, before, after)
        alarms = self._no_alarms()
        length = signals["response_tokens"].shift
        if length is not None:
            monitors = [name for name in self._monitors if name in moved]
            alarms |= reasons(moved, monitors, length)
        self._log_changes(alarms)
        base = self._pairs[BASE]
        return DriftReport(
            window=self.window,
            reference_source=self._source,
            num_reference=base.num_reference,
            num_current=base.num_current,
            num_missing=self.num_missing,
            signals=signals,
            alarms=[
                DriftAlarm(
                    probe=name,
                    rule=rule,
                    active=reason is not None
                    if base.is_full and self._pairs[name].is_full
                    else None,
                    reason=reason,
                )
                for (name, rule), reason in alarms.items()
            ],
        )

    def _log_changes(self, alarms: Alarms) -> None:
        for (name, rule), reason in alarms.items():
            before, now = self._alarms[name, rule] is not None, reason is not None
            if before != now:
                level = log.warning if now else log.info
                level("drift_alarm", probe=name, rule=rule, active=now, reason=reason)
        self._alarms = alarms


def _columns(name: str) -> list[str]:
    """The columns of one probe's windows."""
    return [f"{signal}.{name}" for signal in ("score", "mean", "max")]


def _signals(name: str, columns: Signals) -> Signals:
    """The columns of one pair of windows, and a probe's gap."""
    if name == BASE:
        return columns
    return {**columns, f"gap.{name}": columns[f"max.{name}"] - columns[f"mean.{name}"]}


def _drift_signals(before: Signals, after: Signals, full: bool) -> dict[str, DriftSignal]:
    """What the report says of the signals of one pair of windows."""
    return {
        name: DriftSignal(
            reference=_spread(before[name]),
            current=_spread(after[name]),
            psi=psi(before[name], after[name]) if full else None,
            ks=ks_distance(before[name], after[name]) if full else None,
            shift=mean_shift(before[name], after[name]) if full else None,
        )
        for name in before
        if not name.startswith(("mean.", "max."))
    }


def _movement(name: str, before: Signals, after: Signals) -> Movement:
    def change(signal: str) -> float:
        return float(after[signal].mean() - before[signal].mean())

    return Movement(
        score=mean_shift(before[f"score.{name}"], after[f"score.{name}"]),
        gap=mean_shift(before[f"gap.{name}"], after[f"gap.{name}"]),
        mean=change(f"mean.{name}"),
        max=change(f"max.{name}"),
    )


def _spread(values: NDArray[np.float64]) -> Spread | None:
    """None for an empty window."""
    return Spread(mean=float(values.mean()), std=float(values.std())) if len(values) else None
