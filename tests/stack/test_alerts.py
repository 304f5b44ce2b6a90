"""The alert rules: each fires when it should and is silent when not, each says what to do.

The scenarios are in `docker/alerts_test.yml`, for promtool; here is that every rule has one, by
leaving each rule out and seeing its scenario fail.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from candor.http.edge import OPERATOR_PATHS
from candor.http.pages.inspector import PATHS as PAGE_PATHS
from candor.http.routes import route_table
from tests.stack.composed import ROOT, binds, read, stack
from tests.stack.promql import RULES, rules, selected

SCENARIOS = ROOT / "docker" / "alerts_test.yml"
ALERTS = [rule for rule in rules() if "alert" in rule]


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    return found


def run(promtool: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [promtool, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_rules_are_valid_and_every_scenario_comes_out(promtool: str) -> None:
    for arguments in (("check", "rules", RULES), ("test", "rules", SCENARIOS)):
        done = run(promtool, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", [rule["alert"] for rule in ALERTS])
def test_without_a_rule_its_scenario_fails(promtool: str, tmp_path: Path, alert: str) -> None:
    content = yaml.safe_load(RULES.read_text())
    for group in content["groups"]:
        group["rules"] = [rule for rule in group["rules"] if rule.get("alert") != alert]
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(content))
    shutil.copy(SCENARIOS, tmp_path / "alerts_test.yml")
    done = run(promtool, "test", "rules", tmp_path / "alerts_test.yml")
    assert done.returncode != 0
    assert alert in done.stdout + done.stderr


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_where_it_is_told_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor == rule["alert"].lower()
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert rule["alert"] in headings


def test_scoring_routes_are_all_that_take_work_and_no_others() -> None:
    patterns = {
        value for rule in rules() for _, label, value in selected(rule["expr"]) if label == "route"
    }
    (pattern,) = patterns
    for method, path in route_table():
        scoring = method == "POST" and path not in OPERATOR_PATHS
        assert (re.fullmatch(pattern, path) is None) == scoring, (method, path)
    for path in (*PAGE_PATHS, "/docs", "other"):  # pages; a path that is not served
        assert re.fullmatch(pattern, path), path


def test_prometheus_reads_the_rules_and_the_operators_key_where_compose_mounts_them(
    promtool: str, tmp_path: Path
) -> None:
    prometheus = stack("gpu")["services"]["prometheus"]
    config = read("docker/prometheus.yml")
    (path,) = config["rule_files"]
    assert binds(prometheus)["./docker/alerts.yml"]["target"] == path
    reward = config["scrape_configs"][0]
    key = reward["authorization"]["credentials_file"]
    assert key.removeprefix("/run/secrets/") in prometheus["secrets"]
    assert f"--operator-key-file={key}" in stack("gpu")["services"]["reward"]["command"]
    assert all('job="candor-reward"' in rule["expr"] for rule in ALERTS)
    assert reward["job_name"] == "candor-reward"
    targets = [target for job in config["scrape_configs"] for target in job["static_configs"]]
    assert [one["targets"] for one in targets] == [["reward:8000"], ["generator:8001"]]
    shutil.copy(RULES, tmp_path / "alerts.yml")
    (tmp_path / "key").write_text("k")
    text = (ROOT / "docker" / "prometheus.yml").read_text()
    text = text.replace(path, str(tmp_path / "alerts.yml")).replace(key, str(tmp_path / "key"))
    (tmp_path / "prometheus.yml").write_text(text)
    done = run(promtool, "check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
