"""A `DriftReport` as Prometheus gauges.

The numbers include monitors, so they are for the operator's `/metrics` and for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from candor.watch.drift_report import DriftReport

MEASURES = {
    "psi": "Population stability index, current against reference window",
    "ks": "Kolmogorov-Smirnov distance, current against reference window",
    "shift": "Shift of the mean, in standard deviations of the reference window",
}
STATISTICS = {
    "mean": "Mean of a signal over a drift window, in the signal's own units",
    "std": "Standard deviation of a signal over a drift window, in the signal's own units",
}
_SCORE = "score."


class DriftGauges(Collector):
    """One report per scrape. A number that is not known yet (a window is empty, or the current
    window is not full) has no sample: a 0 would read as no drift."""

    def __init__(self, report: Callable[[], DriftReport]) -> None:
        self._report = report

    def collect(self) -> Iterator[GaugeMetricFamily]:
        report = self._report()
        yield window_items(report)
        yield missing_items(report)
        yield from spreads(report)
        yield from movements(report)
        yield roles(report)
        yield alarms(report)


def window_items(report: DriftReport) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(
        "candor_drift_window_items", "Responses in a drift window", labels=["window"]
    )
    gauge.add_metric(["reference"], report.num_reference)
    gauge.add_metric(["current"], report.num_current)
    return gauge


def missing_items(report: DriftReport) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(
        "candor_drift_missing_items",
        "Responses still to be answered before anything is compared; 0 once alarms can fire",
    )
    gauge.add_metric([], report.num_missing)
    return gauge


def spreads(report: DriftReport) -> Iterator[GaugeMetricFamily]:
    """Exact means and standard deviations; histograms of the same values have only buckets."""
    for statistic, words in STATISTICS.items():
        gauge = GaugeMetricFamily(f"candor_drift_{statistic}", words, labels=["signal", "window"])
        for name, signal in report.signals.items():
            for window in ("reference", "current"):
                spread = getattr(signal, window)
                if spread is not None:
                    gauge.add_metric([name, window], getattr(spread, statistic))
        yield gauge


def movements(report: DriftReport) -> Iterator[GaugeMetricFamily]:
    for measure, words in MEASURES.items():
        gauge = GaugeMetricFamily(f"candor_drift_{measure}", words, labels=["signal"])
        for name, signal in report.signals.items():
            value: float | None = getattr(signal, measure)
            if value is not None:
                gauge.add_metric([name], value)
        yield gauge


def roles(report: DriftReport) -> GaugeMetricFamily:
    """Tells the series of monitors from those of served probes. Only served probes have rules, so a
    probe without a rule is a monitor."""
    served = {alarm.probe for alarm in report.alarms}
    gauge = GaugeMetricFamily(
        "candor_probe_role", "1 for the role of this probe", labels=["probe", "role"]
    )
    for signal in report.signals:
        if signal.startswith(_SCORE):
            name = signal.removeprefix(_SCORE)
            gauge.add_metric([name, "served" if name in served else "monitor"], 1)
    return gauge


def alarms(report: DriftReport) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(
        "candor_drift_alarm", "1 while this rule fires for this probe", labels=["probe", "rule"]
    )
    for alarm in report.alarms:
        if alarm.active is not None:
            gauge.add_metric([alarm.probe, alarm.rule], alarm.active)
    return gauge
