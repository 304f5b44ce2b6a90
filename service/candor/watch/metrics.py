"""Prometheus metrics of one server: what is counted, under which names, in which buckets.

A registry of its own per server, so that two apps in one process (as in the tests) do not add up.
Labels have few values by construction: routes come from the route table, types from `errors.py`,
probes from the command line. Distributions of rewards and probe scores are here so that drift under
optimisation can be seen; texts are not. What is drawn and alarmed from this: `docker/grafana`,
`docker/alerts.yml`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from candor.batching.observer import Observer
from candor.errors import CandorError
from candor.watch.drift_gauges import DriftGauges
from candor.watch.health import Health, Status
from candor.watch.signed import SignedByProbe, signed

if TYPE_CHECKING:
    from candor.batching.batcher import Batcher
    from candor.item import Score
    from candor.watch.drift_report import DriftReport

REQUEST_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 100, 180)
"""Buckets in seconds; 15, 100 and 180 are where trainers give up."""
STAGE_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 90)
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
STAGES = ("tokenise", "queue", "forward")
REFUSALS = ("overloaded", "draining", "not_ready", "deadline_exceeded")
TOKENS = (64, 256, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536)


class Metrics(Observer):
    """The server's metrics; also the batcher's observer (the `on_*` methods)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        reg = self.registry
        ProcessCollector(registry=reg)
        self.requests = Counter(
            "candor_requests", "Requests answered", ["route", "status"], registry=reg
        )
        self.request_s = Histogram(
            "candor_request_duration_seconds",
            "Request head to answer",
            ["route"],
            buckets=REQUEST_S,
            registry=reg,
        )
        self.stage_s = Histogram(
            "candor_stage_duration_seconds",
            "Time in one stage: tokenise a request, queue of an item, forward of a batch",
            ["stage"],
            buckets=STAGE_S,
            registry=reg,
        )
        self.queue_items = Gauge("candor_queue_items", "Items waiting", registry=reg)
        self.queue_tokens = Gauge("candor_queue_tokens", "Tokens waiting", registry=reg)
        self.queue_oldest_s = Gauge(
            "candor_queue_oldest_seconds", "Age of the oldest waiting item", registry=reg
        )
        self.ready = Gauge("candor_ready", "1 when /readyz says ready", registry=reg)
        self.batch_items = Histogram(
            "candor_batch_items", "Items in a forward", buckets=ITEMS, registry=reg
        )
        self.batch_tokens = Histogram(
            "candor_batch_tokens", "Tokens sent in a forward", buckets=TOKENS, registry=reg
        )
        self.tokens = Counter(
            "candor_tokens",
            "Tokens sent by callers, computed in forwards, and computed beyond what was sent",
            ["kind"],
            registry=reg,
        )
        self.base_reward = signed("candor_base_reward", "R of scored responses", reg)
        self.reward = signed("candor_reward", "R minus penalties, as returned", reg)
        self.probe_score = SignedByProbe(
            "candor_probe_score", "S of scored responses, monitors included", reg
        )
        self.errors = Counter(
            "candor_errors", "Requests that ended in this error", ["type"], registry=reg
        )
        self.item_errors = Counter(
            "candor_item_errors", "Items whose scoring failed alone", ["type"], registry=reg
        )
        self.refused = Counter(
            "candor_refused", "Submissions the queue refused", ["type"], registry=reg
        )
        self.gone = Counter(
            "candor_gone_items", "Items dropped unscored because their caller left", registry=reg
        )
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Every type of error has a sample from the start. A counter that appears with its first
        event has no increase in Prometheus' eyes, so an alert on the first would never fire."""
        for type in error_types():
            self.errors.labels(type)
            self.item_errors.labels(type)
        for type in REFUSALS:
            self.refused.labels(type)
        for stage in STAGES:
            self.stage_s.labels(stage)
        for kind in ("sent", "computed", "padding"):
            self.tokens.labels(kind)

    def on_response(self, score: Score, reward: float) -> None:
        """One answered response: R, every S and the reward."""
        self.base_reward.observe(score.base_reward)
        self.reward.observe(reward)
        for name, reading in score.readings.items():
            self.probe_score.labels(name).observe(reading.score)

    def watch(self, batcher: Batcher) -> None:
        """Let the queue gauges read `batcher` when they are scraped."""
        self.queue_items.set_function(lambda: batcher.queue_items)
        self.queue_tokens.set_function(lambda: batcher.queue_tokens)
        self.queue_oldest_s.set_function(lambda: batcher.oldest_wait_s)

    def watch_drift(self, report: Callable[[], DriftReport]) -> None:
        """Let the drift gauges be read off one `report` a scrape."""
        self.registry.register(DriftGauges(report))

    def watch_health(self, health: Health) -> None:
        """Let readiness and its reason be read when they are scraped."""
        self.ready.set_function(lambda: float(health.ready))
        self.registry.register(StatusGauge(health))

    def render(self) -> bytes:
        """The text that `GET /metrics` returns."""
        return generate_latest(self.registry)

    def on_batch(
        self, num_items: int, num_tokens: int, num_computed_tokens: int, forward_s: float
    ) -> None:
        self.batch_items.observe(num_items)
        self.batch_tokens.observe(num_tokens)
        self.stage_s.labels("forward").observe(forward_s)
        self.tokens.labels("sent").inc(num_tokens)
        self.tokens.labels("computed").inc(num_computed_tokens)
        self.tokens.labels("padding").inc(max(0, num_computed_tokens - num_tokens))

    def on_dequeue(self, queue_s: float) -> None:
        self.stage_s.labels("queue").observe(queue_s)

    def on_item_error(self, type: str) -> None:
        self.item_errors.labels(type).inc()

    def on_refused(self, type: str) -> None:
        self.refused.labels(type).inc()

    def on_gone(self, num: int) -> None:
        self.gone.inc(num)


def error_types() -> list[str]:
    """Every `type` that an error of the API can have."""
    classes = [CandorError]
    for one in classes:
        classes += one.__subclasses__()
    return sorted({one.type for one in classes})


class StatusGauge(Collector):
    """Which state the server is in, 1 for it and 0 for the others: why it is not ready."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[GaugeMetricFamily]:
        gauge = GaugeMetricFamily(
            "candor_status", "1 for the status that /readyz gives", labels=["status"]
        )
        now = self._health.status
        for status in get_args(Status):
            gauge.add_metric([status], status == now)
        yield gauge
