"""docs/metrics.md against what a live server exports."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from tests.paths import ROOT
from tests.stack.conftest import Live

ROW = re.compile(r"^\| `(candor_\w+)` \| (\w+) \| ([^|]*)\|", re.MULTILINE)


def test_the_page_lists_every_metric_of_a_live_server_with_its_type_and_labels(live: Live) -> None:
    live.send_plain()
    live.send_wrong()
    live.send_labels()
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    rows = {
        name: (type, set(re.findall(r"`(\w+)`", labels)))
        for name, type, labels in ROW.findall(page)
    }
    exported = {}
    for family in text_string_to_metric_families(live.metrics()):
        if not family.name.startswith("candor_") or family.name.endswith("_created"):
            continue
        suffix = {"counter": "_total"}.get(family.type, "")
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        exported[family.name + suffix] = (family.type, labels)
    assert rows.keys() == exported.keys()
    for name, (type, labels) in exported.items():
        said_type, said_labels = rows[name]
        assert said_type.replace("info", "gauge") == type, name
        assert labels <= said_labels, name
        assert labels == said_labels or not labels, name  # without a sample it has no labels
