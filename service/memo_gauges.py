"""The memo as Prometheus metrics, read when they are scraped."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.memo import Memo


class MemoGauges(Collector):
    """Items that were answered from the memo and that had to be computed, and its size."""

    def __init__(self, memo: Memo) -> None:
        self._memo = memo

    def collect(self) -> Iterator[Metric]:
        items = CounterMetricFamily(
            "candor_memo_items",
            "Items whose score was known already (hit) or was computed and kept (miss)",
            labels=["result"],
        )
        items.add_metric(["hit"], self._memo.num_hits)
        items.add_metric(["miss"], self._memo.num_misses)
        yield items
        yield CounterMetricFamily(
            "candor_memo_evictions",
            "Scores forgotten to stay within --memo-mb",
            value=self._memo.num_evictions,
        )
        yield GaugeMetricFamily(
            "candor_memo_bytes", "Memory that the known scores take", value=self._memo.num_bytes
        )
