"""The metrics over a real port: they add up, and alarms and means can be computed from them."""

from __future__ import annotations

import pytest

from candor.errors import CandorError
from candor.watch.health import Health
from candor.watch.metrics import Metrics
from tests.service.serving import load_tiny, metric, running, score, subclasses, tiny_app


def test_metrics_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_check(_: Health) -> None:
        """Replaces the sentinel's check, which runs every 30 s and would be counted too."""

    monkeypatch.setattr(Health, "check", no_check)
    with running(tiny_app()) as url:
        check_totals(url)


def check_totals(url: str) -> None:
    def totals() -> dict[str, float]:
        return {
            "requests": metric(url, 'candor_requests_total{route="/v1/rewards",status="200"}'),
            "seconds": metric(url, 'candor_request_duration_seconds_count{route="/v1/rewards"}'),
            "sent": metric(url, 'candor_tokens_total{kind="sent"}'),
            "computed": metric(url, 'candor_tokens_total{kind="computed"}'),
            "padding": metric(url, 'candor_tokens_total{kind="padding"}'),
            "rewards": metric(url, "candor_reward_count"),
            "base": metric(url, "candor_base_reward_count"),
            "queue": metric(url, 'candor_stage_duration_seconds_count{stage="queue"}'),
        }

    before = totals()
    usage = score(url).json()["usage"]
    after = totals()
    assert {name: after[name] - before[name] for name in after} == {
        "requests": 1,
        "seconds": 1,
        "sent": usage["num_tokens"],
        "computed": usage["num_computed_tokens"],
        "padding": 0,
        "rewards": 4,
        "base": 4,
        "queue": 4,
    }


def test_every_metric_ends_in_a_unit_or_says_what_it_counts() -> None:
    metrics = Metrics()
    rewarder = load_tiny(metrics)
    assert rewarder.drift is not None
    metrics.watch_drift(rewarder.drift.report)
    rewarder.close()
    metrics.watch_health(Health())
    names = {family.name for family in metrics.registry.collect()}
    ours = {name for name in names if name.startswith("candor_")}
    endings = ("_seconds", "_items", "_tokens", "_reward", "_score", "_ready", "requests", "errors")
    endings += ("_refused", "_status", "_role", "_value", "_engine", "warnings")
    drift = {f"candor_drift_{what}" for what in ("psi", "ks", "shift", "mean", "std", "alarm")}
    assert ours > drift
    assert all(name.startswith("process_") for name in names - ours)  # Prometheus' own names
    assert not [name for name in ours - drift if not name.endswith(endings)]


def test_an_error_that_has_not_happened_has_a_sample_so_that_its_first_time_is_an_increase() -> (
    None
):
    text = Metrics().render().decode()
    for kind in subclasses(CandorError):
        assert f'candor_errors_total{{type="{kind.type}"}} 0.0' in text
        assert f'candor_item_errors_total{{type="{kind.type}"}} 0.0' in text
    assert 'candor_errors_total{type="no_such_error"}' not in text


def test_a_mean_can_be_told_from_values_of_both_signs_by_counters_that_only_rise() -> None:
    metrics = Metrics()
    for value in (2.5, -4.0, 0.0):
        metrics.reward.observe(value)
        metrics.probe_score.labels("a").observe(-value)
    text = metrics.render().decode()
    for line in (
        'candor_reward_value_total{sign="positive"} 2.5',
        'candor_reward_value_total{sign="negative"} 4.0',
        'candor_probe_score_value_total{probe="a",sign="positive"} 4.0',
        'candor_probe_score_value_total{probe="a",sign="negative"} 2.5',
        "candor_reward_count 3.0",
        'candor_reward_bucket{le="0.0"} 2.0',
    ):
        assert line in text.splitlines()
    assert "candor_reward_sum" not in text  # hence the two counters


def test_the_status_gauge_says_which_state_it_is_in() -> None:
    metrics, health = Metrics(), Health()
    metrics.watch_health(health)
    health.draining = True
    lines = [line for line in metrics.render().decode().splitlines() if "candor_status{" in line]
    assert 'candor_status{status="draining"} 1.0' in lines
    assert sum(line.endswith(" 0.0") for line in lines) == len(lines) - 1 == 5
