"""Which version of each probe is served, as a Prometheus metric that is read when it is scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import InfoMetricFamily
from prometheus_client.registry import Collector

Versions = Callable[[], Mapping[str, tuple[int, str, bool]]]
"""By probe, monitors included: version, sha256, and whether it is a monitor."""


class ProbeVersionGauge(Collector):
    """`candor_probe_info`, with one sample per probe."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions

    def collect(self) -> Iterator[InfoMetricFamily]:
        gauge = InfoMetricFamily(
            "candor_probe", "The version of each probe that is served", labels=["probe"]
        )
        for name, (version, sha256, _) in self._versions().items():
            gauge.add_metric([name], {"version": str(version), "sha256": sha256})
        yield gauge
