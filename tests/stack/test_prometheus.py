"""A real Prometheus with our configuration, rules and dashboard against a live server under load.

What is changed of the files in `docker/`: addresses and keys, seconds in place of minutes for
scraping, and no waiting (`for`) before an alert fires; `docker/alerts_test.yml` tests the waiting.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from candor.jobs.running.processes import free_port
from tests.service.serving import wait_for
from tests.stack.composed import read
from tests.stack.conftest import API_KEY, OPERATOR_KEY, Live
from tests.stack.promql import RULES, filled, panel_expressions

WITH_API_KEY = "with-the-api-key"
EMPTY_WHEN_ALL_IS_WELL = {"Alerts pending and firing"}


class Prometheus:
    """The query API of a running one."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        answer = httpx2.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=30)
        assert answer.status_code == 200, answer.text
        return [(one["metric"], float(one["value"][1])) for one in answer.json()["data"]["result"]]

    def firing(self) -> set[tuple[str, ...]]:
        """(alert, labels of interest) of what fires now."""
        return {
            tuple(labels[name] for name in ("alertname", "probe", "rule", "type") if name in labels)
            for labels, _ in self.query('ALERTS{alertstate="firing"}')
        }


def configuration(folder: Path, server: str) -> Path:
    """Our configuration with this server as its target, and once more with the API key."""
    keys = {"operator": OPERATOR_KEY, "api": API_KEY}
    for name, key in keys.items():
        (folder / name).write_text(key)
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
            rule.pop("keep_firing_for", None)
    (folder / "alerts.yml").write_text(yaml.safe_dump(rules))
    config = read("docker/prometheus.yml")
    config["global"] = {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
    }
    config["rule_files"] = [str(folder / "alerts.yml")]
    job = config["scrape_configs"][0]
    job["static_configs"] = [{"targets": [server]}]
    job["authorization"] = {"credentials_file": str(folder / "operator")}
    other = job | {"authorization": {"credentials_file": str(folder / "api")}}
    config["scrape_configs"] = [job, other | {"job_name": WITH_API_KEY}]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def prometheus(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    address = f"127.0.0.1:{free_port()}"
    command = [
        binary,
        f"--config.file={configuration(folder, live.url.removeprefix('http://'))}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            wait_for(lambda: answers(f"http://{address}/-/ready"))
            yield Prometheus(f"http://{address}")
        finally:
            process.terminate()
            process.wait(20)


def answers(url: str) -> bool:
    try:
        return httpx2.get(url).status_code == 200
    except httpx2.TransportError:
        return False


def test_it_is_scraped_with_the_operators_key_and_with_no_other(prometheus: Prometheus) -> None:
    wait_for(lambda: len(prometheus.query("up")) == 2)
    assert {labels["job"]: value for labels, value in prometheus.query("up")} == {
        "candor-reward": 1,
        WITH_API_KEY: 0,
    }
    targets: Any = httpx2.get(f"{prometheus.url}/api/v1/targets").json()["data"]["activeTargets"]
    assert {one["lastError"] for one in targets} == {
        "",
        "server returned HTTP status 401 Unauthorized",
    }


def test_every_panel_has_data_under_load_and_no_alert_fires(
    live: Live, prometheus: Prometheus
) -> None:
    def empty() -> set[str]:
        return {
            f"{title}: {expression}"
            for title, expression in panel_expressions()
            if title not in EMPTY_WHEN_ALL_IS_WELL and "item_errors" not in expression
            if not any(
                math.isfinite(value)
                for _, value in prometheus.query(filled(expression, window="10s", probe="flattery"))
            )
        }

    deadline = time.monotonic() + 60
    while without := empty():
        assert time.monotonic() < deadline, without
        live.send_plain()
        live.send_wrong()
    assert prometheus.firing() == set()
    assert not prometheus.query("rate(candor_no_such_total[10s])")


def test_a_scoring_that_raises_fires_the_alert_for_bugs(live: Live, prometheus: Prometheus) -> None:
    live.send_poison()
    wait_for(lambda: ("CandorBug", "engine_failed") in prometheus.firing())


def test_filler_fires_the_drift_alert_with_probe_and_rule_and_it_ends_with_the_filler(
    live: Live, prometheus: Prometheus
) -> None:
    def drift() -> set[tuple[str, ...]]:
        return {one for one in prometheus.firing() if one[0] == "CandorDrift"}

    assert drift() == set()
    live.send_evading()
    wait_for(lambda: ("CandorDrift", "flattery", "diluted") in drift())
    assert {probe for _, probe, _ in drift()} == {"flattery"}  # the monitor has no rule
    means = prometheus.query(
        'label_replace(candor_drift_shift{signal=~"score[.].+"}, "probe", "$1", "signal", '
        '"score[.](.+)") * on (job, instance, probe) group_left (role) candor_probe_role'
    )
    by_role = {(labels["role"], labels["probe"]): value for labels, value in means}
    assert by_role["served", "flattery"] < -0.5 < by_role["monitor", "watchdog"]
    live.send_plain()
    wait_for(lambda: drift() == set())


def test_a_server_that_is_gone_is_reported(live: Live, prometheus: Prometheus) -> None:
    assert ("CandorUnreachable",) not in prometheus.firing()
    live.stop()
    wait_for(lambda: ("CandorUnreachable",) in prometheus.firing())
    down = filled('count(up{job=~"$job", instance=~"$instance"} == 0) or vector(0)')
    assert prometheus.query(down)[0][1] == 2
