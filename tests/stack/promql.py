"""What the dashboard and the rules ask Prometheus for, read from their files.

Names and labels are found by pattern, which is enough for a test that each of ours exists; whether
an expression is PromQL is for a parser to say (`test_dashboard`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.stack.composed import ROOT

DASHBOARD = ROOT / "docker" / "grafana" / "dashboards" / "candor.json"
RULES = ROOT / "docker" / "alerts.yml"

_NAME = re.compile(r"\b(?:candor|process)[_:][a-z0-9_:]+\b")
_SELECTOR = re.compile(r"\b((?:candor|process)[_:][a-z0-9_:]+)\s*\{([^}]*)\}")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"((?:[^\"\\]|\\.)*)\"")
_BY = re.compile(r"\bby \(([^)]*)\)")
TARGET_LABELS = {"job", "instance"}
"""Prometheus adds them."""


def dashboard() -> dict[str, Any]:
    return dict(json.loads(DASHBOARD.read_text()))


def panels() -> Iterator[dict[str, Any]]:
    """Those with data; rows are left out."""
    yield from (panel for panel in dashboard()["panels"] if panel["type"] != "row")


def panel_expressions() -> list[tuple[str, str]]:
    """(title, expression) of every target."""
    return [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def filled(expression: str, *, window: str = "1m", probe: str = ".*") -> str:
    """A panel's expression with its variables as Grafana would put them in, all chosen."""
    expression = expression.replace("$__rate_interval", window).replace('"$probe"', f'"{probe}"')
    return expression.replace('"$job"', '".*"').replace('"$instance"', '".*"')


def names(expression: str) -> set[str]:
    """Metrics of ours and of the process, with their suffix (`_bucket`, `_total`)."""
    return set(_NAME.findall(re.sub(r'"[^"]*"', '""', expression)))


def selected(expression: str) -> list[tuple[str, str, str]]:
    """(metric, label, wanted value or pattern) of every matcher."""
    return [
        (name, label, value)
        for name, inside in _SELECTOR.findall(expression)
        for label, value in _LABEL.findall(inside)
    ]


def grouped(expression: str) -> set[str]:
    """Labels that aggregations keep."""
    return {label.strip() for inside in _BY.findall(expression) for label in inside.split(",")}


def exported(text: str) -> dict[str, dict[str, set[str]]]:
    """What a server exports: label values by label by sample name."""
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found
