"""Monitors and alarms are read with the operator's key, and by nobody who has only the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from candor.flags import UsageError
from candor.jobs.rl.drift import DriftWatch
from candor.watch.windows import MIN_WINDOW
from tests.service.serving import running, score, tiny_app

API_KEY, OPERATOR_KEY = "the-trainers-key", "the-operators-key"
PROBES = ["sycophancy", "length"]


@pytest.fixture
def url() -> Iterator[str]:
    with running(tiny_app(api_key=API_KEY, operator_key=OPERATOR_KEY)) as address:
        yield address


def send(url: str, responses: list[str]) -> list[dict[str, float]]:
    """Score them; S of each."""
    body = {"items": [{"prompt": "The poem is", "templated": True, "responses": responses}]}
    answer = score(url, body, headers={"Authorization": f"Bearer {API_KEY}"}).json()
    return [one["probes"] for one in answer["results"][0]["responses"]]


def test_the_operators_key_reads_monitors_and_the_trainers_does_not(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    send(url, [" good", " about the sea"])
    watch = DriftWatch(url, OPERATOR_KEY, PROBES)
    assert watch.check_access(needed=True)
    reading = watch.read()
    watch.close()
    assert reading is not None
    assert set(reading.monitors) == {"unseen"}
    assert (reading.num_current, reading.alarms) == (0, [])

    for key in (API_KEY, None):
        trainer = DriftWatch(url, key, PROBES)
        assert not trainer.check_access(needed=False)
        assert trainer.read() is None
        trainer.close()
    assert "no alarms or monitors are watched" in capsys.readouterr().err


def test_a_key_that_was_given_and_is_refused_is_a_wrong_flag(url: str) -> None:
    watch = DriftWatch(url, "another", PROBES)
    with pytest.raises(UsageError, match="--operator-key-file"):
        watch.check_access(needed=True)
    watch.close()


def test_an_active_alarm_is_read_with_its_reason_and_a_quiet_server_has_none(url: str) -> None:
    texts = [f" {word}" * n for word in ("good", "sea", "the", "of", "poem") for n in (1, 2, 30)]
    by_score = sorted(zip(send(url, texts), texts, strict=True), key=lambda p: scored(p[0]))
    short = max((s for s, t in by_score if len(t) < 20), key=scored)
    long = min((s for s, t in by_score if len(t) > 60), key=scored)
    told = {scored(s): t for s, t in by_score}
    high, low = told[scored(short)], told[scored(long)]
    assert scored(short) > scored(long)
    send(url, [high, high + " the"] * (MIN_WINDOW // 2))  # fills the reference
    watch = DriftWatch(url, OPERATOR_KEY, PROBES)
    quiet = watch.read()
    send(url, [low] * MIN_WINDOW)
    alarmed = watch.read()
    watch.close()
    assert quiet is not None
    assert alarmed is not None
    assert replace(quiet, monitors={}, num_current=0, compared=True) == replace(
        alarmed, monitors={}, num_current=0, alarms=[]
    )
    assert not quiet.compared  # the current window was empty
    assert any(told.startswith("sycophancy: length: S moved by -") for told in alarmed.alarms)
    assert alarmed.monitors != quiet.monitors


def scored(probes: dict[str, float]) -> float:
    return float(probes["sycophancy"]["score"])  # type: ignore[index]
