"""The prefix cache as Prometheus metrics, read when they are scraped."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from candor.engines.prefix_cache import PrefixCache


class PrefixCacheGauges(Collector):
    """What known contexts saved, and their size."""

    def __init__(self, cache: PrefixCache) -> None:
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        counts = {
            "hits": ("Batches that found a context of theirs known", "num_hits"),
            "saved_tokens": ("Tokens looked at instead of computed", "num_saved_tokens"),
            "evictions": ("Contexts forgotten to stay within --prefix-cache-mb", "num_evictions"),
        }
        for name, (words, count) in counts.items():
            value = getattr(self._cache, count)
            yield CounterMetricFamily(f"candor_prefix_cache_{name}", words, value=value)
        yield GaugeMetricFamily(
            "candor_prefix_cache_bytes",
            "Memory that keys and values of known contexts take",
            value=self._cache.num_bytes,
        )
