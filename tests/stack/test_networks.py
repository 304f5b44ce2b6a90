"""Who can reach whom in the stack: a job with the API key must not reach Prometheus, which knows
the monitors and asks for no key."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.stack.composed import KINDS, read, stack

JOBS = {"best-of-n", "rl", "bench"}


def neighbours(services: dict[str, Any], name: str) -> set[str]:
    """The services that share a network with one."""
    of = {other: {*service["networks"]} for other, service in services.items()}
    return {other for other in services if other != name and of[other] & of[name]}


@pytest.mark.parametrize("kind", KINDS)
def test_no_job_shares_a_network_with_prometheus_or_grafana(kind: str) -> None:
    composed = stack(kind)
    services = composed["services"]
    for service in services.values():  # without the key a service is in the network of all
        assert {*service["networks"]} <= composed["networks"].keys() == {"scoring", "monitoring"}
    assert neighbours(services, "prometheus") == {"reward", "generator", "grafana"}
    for job in JOBS:
        assert neighbours(services, job) == {"reward", "generator"} | JOBS - {job}


@pytest.mark.parametrize("kind", KINDS)
def test_every_service_reaches_what_it_asks(kind: str) -> None:
    services = stack(kind)["services"]
    for name, service in services.items():
        urls = [value for value in service["environment"].values() if value.startswith("http://")]
        asked = {str(urlsplit(url).hostname) for url in urls} | {*service.get("depends_on", {})}
        assert asked <= neighbours(services, name), name
    configured = read("docker/prometheus.yml")["scrape_configs"]
    targets = [t for job in configured for one in job["static_configs"] for t in one["targets"]]
    assert {target.split(":")[0] for target in targets} == {"reward", "generator"}
    assert {"reward", "generator"} <= neighbours(services, "prometheus")


@pytest.mark.parametrize("kind", KINDS)
def test_on_the_host_only_what_asks_for_a_key_or_password_has_a_port(kind: str) -> None:
    services = stack(kind)["services"]
    published = {name for name, service in services.items() if service.get("ports")}
    assert published == {"reward", "generator", "grafana"}
    assert all(service["secrets"] for name, service in services.items() if name in published)
