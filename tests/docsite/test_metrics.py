"""docs/metrics.md says what the code declares: `make references` writes it. tests/stack compares it
with a live server."""

from __future__ import annotations

from docsite.metrics import Described, alerts, declared, described, metrics_page, panels, users
from tests.paths import ROOT


def test_the_page_is_what_the_code_declares() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    assert page == metrics_page(described(declared())), "run make references"


def test_a_metric_is_drawn_or_alarmed_where_it_is_queried() -> None:
    age = Described("candor_queue_oldest_seconds", "gauge", (), "")
    assert age.unit == "seconds"
    assert users(age, panels()) == ["Oldest in queue", "Queue age"]
    assert users(age, alerts()) == ["CandorQueueOld"]
    requests = Described("candor_requests", "counter", ("route", "status"), "")
    assert requests.exported == "candor_requests_total"
    assert "CandorErrorRate" in users(requests, alerts())  # through a recorded expression
    longer = [("x", "rate(candor_requests_per_day_total[5m])")]
    assert users(requests, iter(longer)) == []
    assert users(
        Described("candor_reward", "histogram", (), ""), iter([("y", "candor_reward_count")])
    )


def test_the_pages_query_names_metrics_that_are_declared() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    (query,) = (part for part in page.split("```")[1::2] if part.startswith("promql"))
    metrics = {one.name: one for one in described(declared())}
    assert {"candor_reward_value_total", "candor_reward_count"} <= set(
        query.replace("(", " ").replace("{", " ").replace("[", " ").split()
    )
    assert "sign" in metrics["candor_reward_value"].labels
