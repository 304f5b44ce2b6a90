"""The dashboard against Grafana's structure, a live server's metrics, and the grammar of PromQL.

Grafana itself is not run: its structure is checked by hand-picked rules. Data in the panels:
`test_prometheus`.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import yaml

from tests.stack.composed import ROOT, binds, read, stack
from tests.stack.conftest import Live
from tests.stack.promql import (
    TARGET_LABELS,
    dashboard,
    exported,
    filled,
    grouped,
    names,
    panel_expressions,
    panels,
    rules,
    selected,
)

EXPRESSIONS = panel_expressions() + [(rule.get("alert", ""), rule["expr"]) for rule in rules()]
RECORDED = {rule["record"] for rule in rules() if "record" in rule}
NEVER_YET = {"non_finite_score", "internal_error", "wrong_scores", "5.."}
"""Label values that a healthy server's error counters and statuses have, or none at all."""


@pytest.fixture(scope="module")
def samples(live: Live) -> dict[str, dict[str, set[str]]]:
    """What the live server exports when there was traffic for every kind of panel."""
    live.send_plain()
    live.send_wrong()
    live.send_poison()
    live.send_labels()
    return exported(live.metrics())


def test_every_metric_asked_for_is_one_that_the_live_server_exports(
    samples: dict[str, dict[str, set[str]]],
) -> None:
    for title, expression in EXPRESSIONS:
        wanted = names(expression)
        assert wanted or "ALERTS" in expression or "up{" in expression, title
        assert not wanted - samples.keys() - RECORDED, title
    assert names('rate(candor_no_such_total{kind="candor_x"}[5m])') - samples.keys()


def test_every_label_asked_for_is_one_that_the_metric_has(
    samples: dict[str, dict[str, set[str]]],
) -> None:
    for title, expression in EXPRESSIONS:
        for name, label, value in selected(filled(expression)):
            has = samples.get(name, {}).keys() | TARGET_LABELS
            assert name in RECORDED or label in has, f"{title}: {name} has no label {label}"
            known = samples.get(name, {}).get(label, set())
            plain = value.isidentifier() and label not in TARGET_LABELS
            assert not plain or value in known, f"{title}: {name} has no {label}={value}"
        every = set().union(*(samples.get(name, {}).keys() for name in names(expression)))
        assert not grouped(expression) - every - TARGET_LABELS - {"status"}, title


def test_every_metric_of_ours_is_on_the_dashboard_or_in_a_rule(
    samples: dict[str, dict[str, set[str]]],
) -> None:
    used = set().union(*(names(expression) for _, expression in EXPRESSIONS))
    families = {name.removesuffix("_total") for name in samples if name.startswith("candor_")}
    families = {family for family in families if not family.endswith(("_created", "_sum"))}
    families = {family.removesuffix("_count").removesuffix("_bucket") for family in families}
    unused = {family for family in families if not any(name.startswith(family) for name in used)}
    assert unused == {  # for questions of one's own
        "candor_drift_ks",
        "candor_drift_std",
        "candor_engine_info",
        "candor_label_auroc",
        "candor_label_rows",
        "candor_probe_info",
        "candor_prefix_cache_evictions",
        "candor_prefix_cache_hits",
    }


def test_panels_have_ids_of_their_own_places_of_their_own_and_say_what_they_show() -> None:
    everything = dashboard()["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    cells: set[tuple[int, int]] = set()
    for panel in everything:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        covers = set(
            itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"]))
        )
        assert not cells & covers, panel["title"]
        cells |= covers
    for panel in panels():
        what, _, rest = panel["description"].partition("\n\n**What to do**\n")
        action, _, metric = rest.partition("\n\n")
        assert what.endswith("."), panel["title"]
        assert all(re.fullmatch(r"- .+\.", line) for line in action.splitlines()), panel["title"]
        assert re.fullmatch(r"Metrics?: [A-Za-z_, ]+\.", metric), panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert len({*refs}) == len(refs) > 0
        for target in panel["targets"]:
            named = names(target["expr"]) or {"up", "ALERTS"}
            words = panel["description"]
            assert all(_family(name) in words for name in named) or named & {"up", "ALERTS"}


def _family(name: str) -> str:
    if name == "candor_probe_role":  # joined for a label, not shown
        return ""
    for suffix in ("_bucket", "_sum", "_count", "_value_total"):
        name = name.removesuffix(suffix)
    return name


def units(panel: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """(side, unit or label of the axis) by what an override matches; the rest under ""."""
    defaults = panel["fieldConfig"]["defaults"]
    axes = {"": ("left", defaults.get("custom", {}).get("axisLabel") or defaults["unit"])}
    for override in panel["fieldConfig"]["overrides"]:
        properties = {one["id"]: one["value"] for one in override["properties"]}
        side, label = properties["custom.axisPlacement"], properties["custom.axisLabel"]
        axes[override["matcher"]["options"]] = (side, label)
    return axes


def test_every_panel_has_a_unit_and_numbers_of_two_kinds_have_axes_of_their_own() -> None:
    two = {}
    for panel in panels():
        if panel["type"] == "timeseries":
            axes = units(panel)
            plain = panel["fieldConfig"]["defaults"]["unit"] in ("short", "none")
            labelled = "axisLabel" in panel["fieldConfig"]["defaults"]["custom"]
            assert labelled or not plain, panel["title"]  # a bare number says what it counts
            if len(axes) > 1:
                two[panel["title"]] = axes
                assert {side for side, _ in axes.values()} == {"left", "right"}
                assert len({label for _, label in axes.values()}) == 2
                legends = {target["legendFormat"] for target in panel["targets"]}
                (matcher,) = axes.keys() - {""}
                found = [one for one in legends if re.fullmatch(matcher.strip("/^") + ".*", one)]
                assert found or matcher == "response_tokens"  # a label's value
    assert two == {
        "Queue depth": {"": ("left", "items"), "tokens": ("right", "tokens")},
        "Batch size": {"": ("left", "items"), "tokens": ("right", "tokens")},
        "Length and gap": {"": ("left", "logits"), "response_tokens": ("right", "tokens")},
        "Errors per second": {"": ("left", "requests"), "/^item: /": ("right", "items")},
        "Refused and given up": {"": ("left", "submissions"), "caller gone": ("right", "items")},
    }


def test_scoring_requests_are_those_that_the_rules_count() -> None:
    of_rules, of_panels = (
        {value for _, text in source for _, label, value in selected(text) if label == "route"}
        for source in ([("", rule["expr"]) for rule in rules()], panel_expressions())
    )
    assert of_rules == of_panels
    assert len(of_rules) == 1


def test_every_row_that_was_asked_for_is_there() -> None:
    rows = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]
    assert rows == [
        "Overview",
        "Throughput",
        "Latency by stage",
        "Queue, batches and sharing",
        "Rewards and probe scores",
        "Drift and monitors",
        "Errors and alerts",
    ]


def test_variables_are_those_the_expressions_use() -> None:
    variables = {one["name"] for one in dashboard()["templating"]["list"]}
    assert variables == {"datasource", "job", "instance", "probe"}
    for title, expression in panel_expressions():
        left = filled(expression)
        assert "$" not in left.replace('"$1"', ""), title  # $1 is label_replace's own


def test_grafana_is_given_the_dashboard_and_a_prometheus_that_the_stack_runs() -> None:
    folder = ROOT / "docker" / "grafana" / "provisioning"
    services = stack("gpu")["services"]
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert {*services["grafana"]["networks"]} & {*services["prometheus"]["networks"]}
    scrape = read("docker/prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape
    (provider,) = yaml.safe_load((folder / "dashboards" / "candor.yml").read_text())["providers"]
    mount = binds(services["grafana"])["./docker/grafana/dashboards"]
    assert mount["target"] == provider["options"]["path"]


def test_every_expression_is_promql() -> None:
    promql = pytest.importorskip("promql_parser", reason="promql-parser is not installed")
    for title, expression in EXPRESSIONS:
        try:
            promql.parse(filled(expression))
        except ValueError as error:
            pytest.fail(f"{title}: {error}")
    for wrong in ("sum by (le (rate(x[1m])))", "rate(x)", "histogram_quantile(x, 1)"):
        with pytest.raises(ValueError, match=r"query|expected|parenthesis"):
            promql.parse(wrong)
