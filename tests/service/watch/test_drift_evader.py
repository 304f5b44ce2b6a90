"""A simulated evader: neutral filler dilutes a mean-pooled probe, and the server raises an alarm.

The trait is present in the tiny RM's activations: whether a token belongs to a flattering word. The
direction is fitted on texts that are not sent later. It is served twice: mean-pooled with a
penalty, and max-pooled as a monitor. The evader appends words that are not flattering to every
response, so the trait remains. The controls are other responses of the same kind, and responses
without the trait.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from candor.probes.artifact import LoadedProbe
from candor.probes.probe import Pooling
from candor.scoring.served import ServedProbe
from candor.watch.drift_reference import MIN_WINDOW, read_reference
from tests.service.evading import (
    REFERENCE,
    Items,
    flattery_probes,
    traffic,
)
from tests.service.serving import load_tiny, metric, running, score, tiny_app


def send(url: str, items: Items) -> list[dict[str, Any]]:
    answer = score(url, {"items": items}, timeout=120)
    assert answer.status_code == 200
    return [scored for result in answer.json()["results"] for scored in result["responses"]]


def drift(url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx2.get(f"{url}/v1/drift").json()
    return found


def active(report: dict[str, Any]) -> dict[str, str]:
    """Reasons of the active alarms, by rule. Only the penalised probe can have alarms."""
    assert {alarm["probe"] for alarm in report["alarms"]} == {"flattery"}
    return {alarm["rule"]: alarm["reason"] for alarm in report["alarms"] if alarm["active"]}


@pytest.fixture(scope="module")
def probes() -> dict[str, ServedProbe]:
    return flattery_probes()


@pytest.fixture
def url(probes: dict[str, ServedProbe]) -> Iterator[str]:
    """A server whose reference window is full."""
    with running(tiny_app(lambda metrics: load_tiny(metrics, served=probes))) as url:
        send(url, REFERENCE)
        report = drift(url)
        assert (report["num_reference"], report["num_current"]) == (MIN_WINDOW, 0)
        yield url


def mean_of(scored: list[dict[str, Any]], name: str) -> float:
    return float(np.mean([one["probes"]["flattery"][name] for one in scored]))


def test_filler_lowers_the_mean_and_not_the_max_and_the_alarm_names_probe_and_rule(
    url: str,
) -> None:
    plain = send(url, REFERENCE)
    diluted = send(url, traffic(1, filler=24))
    assert mean_of(diluted, "mean") < mean_of(plain, "mean") - 0.5
    assert all(
        after["probes"]["flattery"]["max"] >= before["probes"]["flattery"]["max"] - 1e-4
        for before, after in zip(plain, diluted, strict=True)
    )
    # The evader's goal: the penalty falls, although every flattering word is still there.
    assert np.mean([one["penalty"] for one in diluted]) < np.mean([one["penalty"] for one in plain])
    report = drift(url)
    assert report["num_current"] == MIN_WINDOW
    assert report["signals"]["score.flattery"]["shift"] < -0.5
    assert report["signals"]["score.watchdog"]["shift"] > -0.25
    assert report["signals"]["score.flattery"]["psi"] > 0.25
    reasons = active(report)
    assert reasons.keys() >= {"diluted", "length"}
    assert "watchdog" in reasons["diluted"]
    assert metric(url, 'candor_drift_alarm{probe="flattery",rule="diluted"}') == 1
    assert (
        metric(url, 'candor_drift_shift{signal="score.flattery"}')
        == report["signals"]["score.flattery"]["shift"]
    )
    # The alarm ends when the filler ends.
    send(url, traffic(2))
    assert active(drift(url)) == {}
    assert metric(url, 'candor_drift_alarm{probe="flattery",rule="diluted"}') == 0


def test_control_as_much_traffic_without_filler_raises_no_alarm(url: str) -> None:
    for seed in (2, 3, 4):
        send(url, traffic(seed))
        report = drift(url)
        assert report["num_current"] == MIN_WINDOW
        assert active(report) == {}


def test_control_less_of_the_trait_is_a_fall_that_the_monitor_sees_too(url: str) -> None:
    send(url, traffic(2, flattering=(0, 0)))
    report = drift(url)
    assert report["signals"]["score.flattery"]["shift"] < -0.5
    assert report["signals"]["score.watchdog"]["shift"] < -0.5
    assert "diluted" not in active(report)
    assert "length" not in active(report)


def test_control_a_max_pooled_penalty_is_not_evaded_and_raises_no_alarm(
    probes: dict[str, ServedProbe],
) -> None:
    poolings: dict[str, Pooling] = {"flattery": "max", "watchdog": "mean"}
    turned = {
        name: replace(
            one,
            loaded=LoadedProbe(
                replace(one.loaded.probe, pooling=poolings[name]),
                one.loaded.card.model_copy(update={"pooling": poolings[name]}),
            ),
        )
        for name, one in probes.items()
    }
    with running(tiny_app(lambda metrics: load_tiny(metrics, served=turned))) as url:
        plain = send(url, REFERENCE)
        diluted = send(url, traffic(1, filler=24))
        assert all(
            after["penalty"] >= before["penalty"] - 1e-4
            for before, after in zip(plain, diluted, strict=True)
        )
        assert "diluted" not in active(drift(url))


def test_what_a_request_overrides_and_the_sentinel_change_nothing(
    url: str, probes: dict[str, ServedProbe]
) -> None:
    send(url, traffic(2))
    before = drift(url)
    app = tiny_app(lambda metrics: load_tiny(metrics, served=probes))
    with running(app) as other:
        send(other, REFERENCE)
        body = {"items": traffic(2), "penalties": {"flattery": {"closed_form": {"beta": 1}}}}
        assert score(other, body, timeout=120).status_code == 200
        refused = {"items": traffic(3)[:1], "penalties": {"nonsense": {"lambda": 1}}}
        assert score(other, refused).status_code == 400
        assert drift(other) == before


def test_a_reference_taken_from_one_server_serves_the_next(
    url: str, probes: dict[str, ServedProbe], tmp_path: Path
) -> None:
    path = tmp_path / "reference.json"
    path.write_bytes(httpx2.get(f"{url}/v1/drift/reference").content)
    reference = read_reference(path)
    app = tiny_app(lambda metrics: load_tiny(metrics, served=probes, drift_reference=reference))
    with running(app) as other:
        assert drift(other)["reference_source"] == "file"
        send(other, traffic(1, filler=24))
        assert "diluted" in active(drift(other))
