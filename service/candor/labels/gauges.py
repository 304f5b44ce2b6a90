"""The labels as Prometheus metrics, read when they are scraped. They include monitors."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from candor.labels.book import LabelBook


class LabelGauges(Collector):
    """A number that is not known yet has no sample. There are none before the first label."""

    def __init__(self, book: LabelBook) -> None:
        self._book = book

    def collect(self) -> Iterator[Metric]:
        if self._book.is_empty:
            return
        rows = CounterMetricFamily(
            "candor_label_rows", "Judged responses", labels=["drawn", "label"]
        )
        for (drawn, label), count in sorted(self._book.counts.items()):
            rows.add_metric([drawn, label], count)
        yield rows
        auroc = GaugeMetricFamily(
            "candor_label_auroc",
            "AUROC within prompts on judged responses, over the latest window",
            labels=["probe"],
        )
        level = GaugeMetricFamily(
            "candor_label_level", "Lower bound of the first window's AUROC", labels=["probe"]
        )
        alarm = GaugeMetricFamily(
            "candor_label_alarm",
            "1 while the AUROC on judged responses has fallen below its level",
            labels=["probe"],
        )
        for name, probe in self._book.report().probes.items():
            if probe.auroc is not None:
                auroc.add_metric([name], probe.auroc)
            if probe.reference is not None:
                level.add_metric([name], probe.reference.level)
            alarm.add_metric([name], probe.alarm is not None)
        yield from (auroc, level, alarm)
