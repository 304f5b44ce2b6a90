"""Prometheus metrics of one server: their names, labels and buckets.

Each server has a registry of its own, so that two apps in one process (as in the tests) do not add
up. Labels have few values by construction: routes come from the route table, types from
`errors.py`, probes from the command line. Distributions of rewards and probe scores show drift
under optimisation; no metric holds texts. `docker/grafana` draws these metrics, `docker/alerts.yml`
has alerts on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from candor.batching.observer import Observer
from candor.errors import CandorError
from candor.watch.drift_gauges import DriftGauges
from candor.watch.health import Health, Status
from candor.watch.probe_gauge import ProbeVersionGauge, Versions

if TYPE_CHECKING:
    from candor.batching.batcher import Batcher
    from candor.item import Score
    from candor.watch.drift_report import DriftReport

REQUEST_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 100, 180)
"""Trainers time out after 15, 100 or 180 seconds."""
STAGE_BUCKETS_S = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 90,
)  # fmt: skip
ITEM_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_POSITIVE = (0.25, 0.5, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 50)
SIGNED_BUCKETS = (*(-bound for bound in reversed(_POSITIVE)), 0, *_POSITIVE)
"""For rewards, in reward units, and probe scores, in logits."""
STAGES = ("tokenise", "queue", "forward")
REFUSALS = ("overloaded", "draining", "not_ready", "deadline_exceeded")
TOKEN_BUCKETS = (64, 256, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536)


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
            "Time from the request's head to its answer",
            ["route"],
            buckets=REQUEST_BUCKETS_S,
            registry=reg,
        )
        self.stage_s = Histogram(
            "candor_stage_duration_seconds",
            "Time in one stage: tokenise a request, queue of an item, forward of a batch",
            ["stage"],
            buckets=STAGE_BUCKETS_S,
            registry=reg,
        )
        self.queue_items = Gauge("candor_queue_items", "Items waiting", registry=reg)
        self.queue_tokens = Gauge("candor_queue_tokens", "Tokens waiting", registry=reg)
        self.queue_oldest_s = Gauge(
            "candor_queue_oldest_seconds", "Age of the oldest waiting item", registry=reg
        )
        self.ready = Gauge("candor_ready", "1 when /readyz says ready", registry=reg)
        self.batch_items = Histogram(
            "candor_batch_items", "Items in a forward", buckets=ITEM_BUCKETS, registry=reg
        )
        self.batch_tokens = Histogram(
            "candor_batch_tokens", "Tokens sent in a forward", buckets=TOKEN_BUCKETS, registry=reg
        )
        self.tokens = Counter(
            "candor_tokens",
            "Tokens sent by callers, computed in forwards, and computed beyond what was sent",
            ["kind"],
            registry=reg,
        )
        self.base_reward = signed_histogram("candor_base_reward", "R of scored responses", reg)
        self.reward = signed_histogram("candor_reward", "R minus penalties, as returned", reg)
        self.probe_score = SignedHistograms(
            "candor_probe_score", "S of scored responses, monitors included", reg, ("probe",)
        )
        self.errors = Counter(
            "candor_errors", "Requests that ended in this error", ["type"], registry=reg
        )
        self.warnings = Counter(
            "candor_warnings", "Requests scored with this warning", ["type"], registry=reg
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

    def on_engine(self, name: str, reason: str) -> None:
        """Shows the engine that runs, and why; there is no such metric before."""
        words = "The engine that runs, and why it was chosen"
        Info("candor_engine", words, registry=self.registry).info(
            {"engine": name, "reason": reason}
        )

    def _begin_at_zero(self) -> None:
        """Gives every type of error a sample from the start. For Prometheus, a counter that appears
        with its first event has not increased, so an alert on the first event would not fire."""
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
        """Makes the queue gauges and the metrics of the workers read `batcher` at each scrape."""
        self.queue_items.set_function(lambda: batcher.num_queued_items)
        self.queue_tokens.set_function(lambda: batcher.num_queued_tokens)
        self.queue_oldest_s.set_function(lambda: batcher.oldest_wait_s)
        self.registry.register(WorkerMetrics(batcher))

    def watch_drift(self, report: Callable[[], DriftReport]) -> None:
        """Adds the drift gauges, which call `report` once per scrape."""
        self.registry.register(DriftGauges(report))

    def watch_probes(self, versions: Versions) -> None:
        """Shows the version of each probe, which `versions` gives at each scrape."""
        self.registry.register(ProbeVersionGauge(versions))

    def watch_health(self, health: Health) -> None:
        """Makes the gauges of readiness and status read `health` at each scrape."""
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

    def on_gone(self, num_items: int) -> None:
        self.gone.inc(num_items)


def error_types() -> list[str]:
    """Every `type` that an error of the API can have."""
    classes = [CandorError]
    for error in classes:
        classes += error.__subclasses__()
    return sorted({error.type for error in classes})


class SignedHistogram:
    """A distribution of signed values: R, S or rewards.

    The sum of signed values can fall, so it is no counter: `rate` would take every fall for a
    restart, and the client library leaves `_sum` out of histograms with negative buckets. So the
    positive and the negative values are summed separately, as `NAME_value_total{sign}`. Both sums
    only rise, and their difference over `NAME_count` is the mean.
    """

    def __init__(self, histogram: Histogram, positive: Counter, negative: Counter) -> None:
        self._histogram = histogram
        self._positive = positive
        self._negative = negative

    def observe(self, value: float) -> None:
        """Counts one finite value."""
        self._histogram.observe(value)
        (self._positive if value >= 0 else self._negative).inc(abs(value))


class SignedHistograms:
    """One `SignedHistogram` per value of some labels.

    Args:
        label_names: the labels, beside `sign`.
    """

    def __init__(
        self, name: str, words: str, registry: CollectorRegistry, label_names: tuple[str, ...] = ()
    ) -> None:
        self._histogram = Histogram(
            name, words, label_names, buckets=SIGNED_BUCKETS, registry=registry
        )
        sums = f"Sum of the values of this sign, as a magnitude: {words}"
        self._sums = Counter(f"{name}_value", sums, [*label_names, "sign"], registry=registry)

    def labels(self, *values: str) -> SignedHistogram:
        return SignedHistogram(
            self._histogram.labels(*values) if values else self._histogram,
            self._sums.labels(*values, "positive"),
            self._sums.labels(*values, "negative"),
        )


def signed_histogram(name: str, words: str, registry: CollectorRegistry) -> SignedHistogram:
    return SignedHistograms(name, words, registry).labels()


class WorkerMetrics(Collector):
    """How many workers there are, and the time they have been in use.

    The time is read at the scrape and not counted when a batch ends: a batch that is longer than
    the window of a query would count whole in it, and the share would be above 1.
    """

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        words = "Batches that may be computed at the same time (--workers)"
        yield GaugeMetricFamily("candor_workers", words, self._batcher.num_workers)
        words = "Seconds that workers have been in use, added up over workers"
        yield CounterMetricFamily("candor_worker_busy_seconds", words, self._batcher.busy_s)


class StatusGauge(Collector):
    """1 for the server's present state, 0 for every other state."""

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
