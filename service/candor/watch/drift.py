"""Two windows over the answered responses, and how far the newer has drifted from the older.

The reference window is the first `window` responses, or comes from a file. The current window
slides over the last `window` responses after that. Each response takes one row of float32.
Statistics are computed on demand: for `GET /v1/drift`, for a scrape of the metrics, and every
`WATCH_INTERVAL_S` for the log. The windows are compared once the current window is full, because
the PSI of few values is high even without drift (`candor.probes.drift`).

Only answered requests are recorded, not the texts of the health check. Recorded are R and S, never
the reward, so penalties that a request overrides change nothing here.
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
from candor.watch.windows import DEFAULT_WINDOW

log = logs.get(__name__)

WATCH_INTERVAL_S = 30.0
"""How often alarms are computed for the log."""

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
        self._columns = ["base_reward", "response_tokens"] + [
            f"{signal}.{name}" for name in probes for signal in ("score", "mean", "max")
        ]
        self._identity = ScoresIdentity(
            weights_sha256,
            template_sha256,
            {
                name: probe_sha256(probe, projected=name in projected)
                for name, probe in probes.items()
            },
        )
        self._rows: WindowRows = np.empty((window, len(self._columns)), dtype=np.float32)
        self._num = 0
        """Responses written to `_rows` since it was empty."""
        self._reference: WindowRows | None = None
        self._source: Literal["traffic", "file"] = "traffic"
        if reference is not None:
            self._reference = reference.rows(self._identity, self._columns)
            self._source = "file"
        self._alarms: Alarms = self._no_alarms()
        self._report: DriftReport | None = None
        """The report on all recorded responses; None after a new response."""

    def record(self, score: Score, num_response_tokens: int) -> None:
        """Adds one answered response; constant time and memory."""
        row = [score.base_reward, num_response_tokens]
        for name in self._names:
            reading = score.readings[name]
            row += (reading.score, reading.mean, reading.max)
        self._rows[self._num % self.window] = row
        self._num += 1
        self._report = None
        if self._reference is None and self._num == self.window:
            self._reference, self._rows = self._rows, np.empty_like(self._rows)
            self._num = 0
            log.info("drift_reference", num=self.window)

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
        if self._reference is None:
            raise NotReady(
                f"the reference window holds {self._num} of {self.window} responses",
                retry_after_s=60,
            )
        columns = dict(zip(self._columns, np.ascontiguousarray(self._reference.T), strict=True))
        return orjson.dumps(
            {
                "version": 1,
                "weights_sha256": self._identity.weights_sha256,
                "template_sha256": self._identity.template_sha256,
                "probes": dict(self._identity.probes),
                "columns": columns,
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
        for_reference = self.window if self._reference is None else 0
        return for_reference + self.window - min(self._num, self.window)

    def _no_alarms(self) -> Alarms:
        penalised = [name for name in self._names if name not in self._monitors]
        rules = [rule for rule in RULES if self._monitors or rule not in NEEDS_MONITOR]
        return {(name, rule): None for name in penalised for rule in rules}

    def _compute(self) -> DriftReport:
        rows = self._rows[: min(self._num, self.window)]
        reference, current = (
            (rows, rows[:0]) if self._reference is None else (self._reference, rows)
        )
        before, after = self._signals(reference), self._signals(current)
        full = len(current) == self.window
        alarms = self._reasons(before, after) if full else self._no_alarms()
        self._log_changes(alarms)
        return DriftReport(
            window=self.window,
            reference_source=self._source,
            num_reference=len(reference),
            num_current=len(current),
            num_missing=self.num_missing,
            signals={
                name: DriftSignal(
                    reference=_spread(before[name]),
                    current=_spread(after[name]),
                    psi=psi(before[name], after[name]) if full else None,
                    ks=ks_distance(before[name], after[name]) if full else None,
                    shift=mean_shift(before[name], after[name]) if full else None,
                )
                for name in before
                if not name.startswith(("mean.", "max."))
            },
            alarms=[
                DriftAlarm(
                    probe=name,
                    rule=rule,
                    active=reason is not None if full else None,
                    reason=reason,
                )
                for (name, rule), reason in alarms.items()
            ],
        )

    def _signals(self, rows: WindowRows) -> Signals:
        """Every column by name, and each probe's gap."""
        signals = dict(zip(self._columns, rows.T.astype(np.float64), strict=True))
        for name in self._names:
            signals[f"gap.{name}"] = signals[f"max.{name}"] - signals[f"mean.{name}"]
        return signals

    def _reasons(self, before: Signals, after: Signals) -> Alarms:
        def shift(signal: str) -> float:
            return mean_shift(before[signal], after[signal])

        def change(signal: str) -> float:
            return float(after[signal].mean() - before[signal].mean())

        moved = {
            name: Movement(
                score=shift(f"score.{name}"),
                gap=shift(f"gap.{name}"),
                mean=change(f"mean.{name}"),
                max=change(f"max.{name}"),
            )
            for name in self._names
        }
        return reasons(moved, self._monitors, shift("response_tokens"))

    def _log_changes(self, alarms: Alarms) -> None:
        for (name, rule), reason in alarms.items():
            before, now = self._alarms[name, rule] is not None, reason is not None
            if before != now:
                level = log.warning if now else log.info
                level("drift_alarm", probe=name, rule=rule, active=now, reason=reason)
        self._alarms = alarms


def _spread(values: NDArray[np.float64]) -> Spread | None:
    """None for an empty window."""
    return Spread(mean=float(values.mean()), std=float(values.std())) if len(values) else None
