"""Writes docs/metrics.md from the metrics' own declarations: `make references`.

    python -m docsite.metrics docs/metrics.md

Nothing is served: each metric is declared as a server declares it, with stand-ins for what it would
measure. A test compares the page with a live server's metrics.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from candor.batching.batcher import Batcher
from candor.engines.prefix_cache import PrefixCache
from candor.item import Engine
from candor.labels.book import LabelBook
from candor.labels.gauges import LabelGauges
from candor.watch.cache_gauges import PrefixCacheGauges
from candor.watch.drift_report import DriftAlarm, DriftReport
from candor.watch.health import Health
from candor.watch.metrics import SIGNED_BUCKETS, Metrics
from docsite.pages import ROOT

UNITS = {
    "candor_base_reward": "reward units",
    "candor_reward": "reward units",
    "candor_probe_score": "logits",
    "candor_drift_mean": "the signal's own",
    "candor_drift_std": "the signal's own",
    "candor_drift_shift": "standard deviations",
}
"""Units that the end of a name does not say."""
ENDINGS = ("seconds", "bytes", "tokens", "items")
SUFFIXES = {"counter": "_total", "info": "_info"}
"""What the text format adds to the name of a metric."""
SERIES = r"(?:_total|_info|_bucket|_sum|_count|_created)?"

HEAD = Path(__file__).with_name("metrics_head.md").read_text("utf-8")


class Described(NamedTuple):
    """One metric as it is declared.

    Attributes:
        name: without the suffix of its type.
        labels: without `le`.
    """

    name: str
    type: str
    labels: tuple[str, ...]
    help: str

    @property
    def exported(self) -> str:
        """The name under which it is queried; a histogram's has suffixes behind it."""
        return self.name + SUFFIXES.get(self.type, "")

    @property
    def unit(self) -> str:
        known = UNITS.get(self.name.removesuffix("_value"))
        words = self.name.split("_")
        return known or next((word for word in reversed(words) if word in ENDINGS), "")


def declared() -> CollectorRegistry:
    """The registry of a server that has all of its metrics."""
    metrics = Metrics()
    versions = {"NAME": (1, "sha256", False)}
    metrics.on_engine("packed", "the reason")
    metrics.watch(Batcher(cast(Engine, None), max_batch_tokens=1, max_queue_tokens=1))
    metrics.watch_health(Health())
    metrics.watch_probes(lambda: versions)
    metrics.watch_drift(lambda: nothing_compared)
    metrics.registry.register(PrefixCacheGauges(PrefixCache(0)))
    book = LabelBook(versions, window=64)
    book.add([[{"label": 1, "judged": {"drawn": "chosen"}}]])  # without a row it has no metrics
    metrics.registry.register(LabelGauges(book))
    return metrics.registry


nothing_compared = DriftReport(
    window=1024,
    reference_source="traffic",
    num_reference=0,
    num_current=0,
    num_missing=2048,
    signals={},
    alarms=[DriftAlarm(probe="NAME", rule="length", active=None, reason=None)],
)


def described(registry: CollectorRegistry) -> list[Described]:
    """Our metrics, by name. prometheus_client tells label names only to itself."""
    found = []
    for collector in registry._collector_to_names:
        for family in collector.collect():
            owner: Any = collector if isinstance(collector, MetricWrapperBase) else family
            labels = tuple(getattr(owner, "_labelnames", ()))
            if family.type == "info":  # its content stands in labels too
                told = (name for sample in family.samples for name in sample.labels)
                labels = tuple(dict.fromkeys((*labels, *told)))
            found.append(Described(family.name, family.type, labels, family.documentation))
    return sorted(one for one in found if one.name.startswith("candor_"))


def panels() -> Iterator[tuple[str, str]]:
    """(title, expression) of every query of the dashboard."""
    path = ROOT / "docker" / "grafana" / "dashboards" / "candor.json"
    for panel in json.loads(path.read_text("utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def alerts() -> Iterator[tuple[str, str]]:
    """(name, expression) of every alert, with the recorded expressions written out."""
    document = yaml.safe_load((ROOT / "docker" / "alerts.yml").read_text("utf-8"))
    rules = [rule for group in document["groups"] for rule in group["rules"]]
    recorded = {rule["record"]: rule["expr"] for rule in rules if "record" in rule}
    for rule in rules:
        if "alert" in rule:
            used = [expr for name, expr in recorded.items() if name in rule["expr"]]
            yield rule["alert"], " ".join([rule["expr"], *used])


def users(metric: Described, queries: Iterator[tuple[str, str]]) -> list[str]:
    """Who queries a metric, each once, in order."""
    series = re.compile(rf"\b{metric.name}{SERIES}\b")
    return list(dict.fromkeys(name for name, expression in queries if series.search(expression)))


def metrics_page(metrics: list[Described]) -> str:
    """The text of docs/metrics.md."""
    rows = []
    for one in metrics:
        labels = ", ".join(f"`{label}`" for label in one.labels)
        drawn = "; ".join(f"*{title}*" for title in users(one, panels()))
        alarmed = ", ".join(f"[{name}](stack.md#{name.lower()})" for name in users(one, alerts()))
        cells = (f"`{one.exported}`", one.type, labels, one.unit, one.help, drawn, alarmed)
        rows.append("| " + " | ".join(cells) + " |")
    return HEAD + "\n".join(rows) + "\n\n" + _buckets()


def _buckets() -> str:
    bounds = ", ".join(f"{bound:g}" for bound in SIGNED_BUCKETS)
    return f"The buckets of R, S and rewards end at {bounds}.\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(metrics_page(described(declared())), encoding="utf-8")
