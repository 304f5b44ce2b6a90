"""The prefix cache as Prometheus metrics, read when they are scraped."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from candor.engines.prefix_cache import PrefixCache


class PrefixCacheGauges(Collector):
    """How much the cached contexts saved, and their size."""

    def __init__(self, cache: PrefixCache) -> None:
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        counts = {
            "hits": ("Batches with a cached context", "num_hits"),
            "saved_tokens": ("Tokens read from the cache and not computed", "num_saved_tokens"),
            "evictions": ("Contexts dropped to stay within --prefix-cache-mb", "num_evictions"),
        }
        for name, (words, count) in counts.items():
            value = getattr(self._cache, count)
            yield CounterMetricFamily(f"candor_prefix_cache_{name}", words, value=value)
        yield GaugeMetricFamily(
            "candor_prefix_cache_bytes",
            "Memory that keys and values of cached contexts take",
            value=self._cache.num_bytes,
        )
