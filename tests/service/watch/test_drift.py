"""The windows: what is in which, when they are compared, and a reference kept over a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prometheus_client.core import GaugeMetricFamily

from candor.errors import NotReady
from candor.flags import UsageError
from candor.item import Reading, Score
from candor.probes.drift import ks_distance, mean_shift, psi
from candor.probes.probe import Probe
from candor.watch import drift as drift_module
from candor.watch.drift import Drift
from candor.watch.drift_gauges import DriftGauges
from candor.watch.drift_reference import probe_sha256, read_reference
from candor.watch.drift_report import DriftReport
from candor.watch.windows import MIN_WINDOW

WINDOW = MIN_WINDOW
PROBES = {
    "trait": Probe("trait", torch.ones(4), 0.5, 1, "mean"),
    "watch": Probe("watch", torch.ones(4), 0.5, 1, "max"),
}


def made(**changes: Any) -> Drift:
    given: dict[str, Any] = {
        "weights_sha256": "w",
        "template_sha256": "t",
        "probes": PROBES,
        "monitors": frozenset({"watch"}),
        "window": WINDOW,
    }
    return Drift(**(given | changes))


def scores(seed: int, num: int, mean: float = 0.0, gap: float = 1.0) -> list[Score]:
    """`trait` and `watch` read the same tokens: their mean, and `gap` above it the max."""
    draw = np.random.default_rng(seed).standard_normal((num, 3))
    return [
        Score(
            base_reward=float(r),
            readings={
                "trait": Reading(mean + s, mean + s, mean + s + gap + g),
                "watch": Reading(mean + s + gap + g, mean + s, mean + s + gap + g),
            },
        )
        for r, s, g in draw * [2.0, 1.0, 0.5]
    ]


def feed(drift: Drift, given: Sequence[Score], length: int = 10) -> Drift:
    for number, score in enumerate(given):
        drift.record(score, length + number % 5)
    return drift


def active(report: DriftReport) -> set[tuple[str, str]]:
    return {(alarm.probe, alarm.rule) for alarm in report.alarms if alarm.active}


def test_nothing_is_compared_before_the_current_window_is_full() -> None:
    drift = made()
    report = drift.report()
    assert (report.num_reference, report.num_current) == (0, 0)
    assert report.signals["base_reward"].reference is None
    feed(drift, scores(0, WINDOW - 1))
    assert (drift.report().num_reference, drift.report().num_current) == (WINDOW - 1, 0)
    feed(drift, scores(1, 1))
    feed(drift, scores(2, WINDOW - 1, mean=-9))
    report = drift.report()
    assert (report.num_reference, report.num_current) == (WINDOW, WINDOW - 1)
    assert {signal.psi for signal in report.signals.values()} == {None}
    assert active(report) == set()
    feed(drift, scores(3, 1, mean=-9))
    report = drift.report()
    assert (report.num_reference, report.num_current) == (WINDOW, WINDOW)
    assert None not in {signal.psi for signal in report.signals.values()}


def test_how_many_responses_are_missing_is_told_and_until_then_no_rule_has_a_verdict() -> None:
    """240 responses of a short run, the last 112 of them far from the first 128."""
    drift = feed(made(), scores(0, 128))
    feed(drift, scores(1, 112, mean=-50, gap=51))
    report = drift.report()
    assert (report.num_reference, report.num_current, report.num_missing) == (128, 112, 16)
    assert {alarm.active for alarm in report.alarms} == {None}
    assert not [one for one in gauges(drift) if one.name == "candor_drift_alarm" and one.samples]
    feed(drift, scores(2, 16, mean=-50, gap=51))
    report = drift.report()
    assert report.num_missing == 0
    assert ("trait", "diluted") in active(report)  # the control: with 16 more it is seen
    assert {alarm.active for alarm in report.alarms} == {True, False}
    (missing,) = [one for one in gauges(drift) if one.name == "candor_drift_missing_items"]
    assert [sample.value for sample in missing.samples] == [0]


def gauges(drift: Drift) -> list[GaugeMetricFamily]:
    return list(DriftGauges(drift.report).collect())


@pytest.mark.parametrize(
    ("num", "from_file", "missing"),
    [(0, False, 256), (100, False, 156), (128, False, 128), (256, False, 0), (300, False, 0),
     (0, True, 128), (127, True, 1), (128, True, 0)],
)  # fmt: skip
def test_what_is_missing_at_every_place(
    num: int, from_file: bool, missing: int, tmp_path: Path
) -> None:
    kept = None
    if from_file:
        kept = read_reference(saved(feed(made(), scores(0, WINDOW)), tmp_path))
    drift = feed(made(reference=kept), scores(1, num))
    assert drift.report().num_missing == missing


@pytest.mark.parametrize(("num", "said"), [(0, False), (128, True), (240, True), (256, False)])
def test_a_server_that_compared_nothing_says_so_at_its_end(
    num: int, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, int]] = []

    class EndLog:
        def info(self, event: str, **fields: Any) -> None:
            if event == "drift_never_compared":
                events.append((event, fields["num_missing"]))

    monkeypatch.setattr(drift_module, "log", EndLog())
    drift = feed(made(), scores(0, num))

    async def watch() -> None:
        task = asyncio.create_task(drift.watch(60))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(watch())
    assert events == ([("drift_never_compared", 256 - num)] if said else [])


def test_without_a_monitor_the_rule_that_needs_one_is_not_listed() -> None:
    alone = made(probes={"trait": PROBES["trait"]}, monitors=frozenset())
    assert {alarm.rule for alarm in alone.report().alarms} == {"mean_max_gap", "length"}
    assert {alarm.rule for alarm in made().report().alarms} == {"diluted", "mean_max_gap", "length"}


def test_the_numbers_are_those_of_the_two_windows_and_only_the_newest_counts() -> None:
    first, lost, last = scores(0, WINDOW), scores(1, 50, mean=40), scores(2, WINDOW, mean=-1)
    drift = made()
    for part in (first, lost, last):
        feed(drift, part)
    report = drift.report()
    before = np.float32([score.readings["trait"].score for score in first])
    after = np.float32([score.readings["trait"].score for score in last])
    signal = report.signals["score.trait"]
    assert signal.shift == pytest.approx(mean_shift(before, after))
    assert signal.psi == pytest.approx(psi(before, after))
    assert signal.ks == pytest.approx(ks_distance(before, after))
    assert signal.reference is not None
    assert signal.reference.mean == pytest.approx(before.mean(), abs=1e-6)
    assert report.signals.keys() == {
        "base_reward",
        "response_tokens",
        *(f"{what}.{name}" for what in ("score", "gap") for name in PROBES),
    }


def test_the_same_traffic_raises_no_alarm_and_filler_does_and_less_of_the_trait_does_not() -> None:
    reference = scores(0, WINDOW)
    same = feed(feed(made(), reference), scores(1, WINDOW)).report()
    assert active(same) == set()
    # Two reference deviations down in the mean; what it loses the gap gains.
    filler = feed(feed(made(), reference), scores(1, WINDOW, mean=-2, gap=3)).report()
    assert active(filler) == {("trait", "diluted"), ("trait", "mean_max_gap")}
    longer = feed(feed(made(), reference), scores(1, WINDOW, mean=-2, gap=3), length=40).report()
    assert active(longer) == active(filler) | {("trait", "length")}
    less = feed(feed(made(), reference), scores(1, WINDOW, mean=-2)).report()
    assert active(less) == set()
    assert less.signals["score.trait"].shift == pytest.approx(-2, abs=0.4)  # it did fall


def test_an_alarm_that_begins_and_ends_is_a_log_line_each_and_one_that_stays_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[tuple[str, str, bool]] = []

    class AlarmLog:
        def warning(self, event: str, **fields: Any) -> None:
            told.append(("warning", fields["rule"], fields["active"]))
            assert fields["probe"] == "trait"
            assert fields["reason"]

        def info(self, event: str, **fields: Any) -> None:
            if event == "drift_alarm":
                told.append(("info", fields["rule"], fields["active"]))

    monkeypatch.setattr(drift_module, "log", AlarmLog())
    drift = feed(made(monitors=frozenset({"watch"})), scores(0, WINDOW))
    feed(drift, scores(1, WINDOW, mean=-2, gap=3)).report()
    assert told == [("warning", "diluted", True), ("warning", "mean_max_gap", True)]
    feed(drift, scores(2, 10, mean=-2, gap=3)).report()
    assert len(told) == 2
    feed(drift, scores(3, WINDOW)).report()
    assert told[2:] == [("info", "diluted", False), ("info", "mean_max_gap", False)]


def test_watching_looks_without_being_asked() -> None:
    drift = feed(feed(made(), scores(0, WINDOW)), scores(1, WINDOW, mean=-2, gap=3))
    looked = asyncio.Event()
    report = drift.report

    def seen() -> DriftReport:
        looked.set()
        return report()

    drift.report = seen  # type: ignore[method-assign]

    async def watch() -> None:
        task = asyncio.create_task(drift.watch(0.0))
        await looked.wait()
        task.cancel()

    asyncio.run(watch())
    assert drift._alarms["trait", "diluted"] is not None


# -- the reference as a file


def saved(drift: Drift, folder: Path) -> Path:
    path = folder / "reference.json"
    path.write_bytes(drift.reference_json())
    return path


def test_a_reference_is_there_once_the_window_is_full() -> None:
    drift = feed(made(), scores(0, WINDOW - 1))
    with pytest.raises(NotReady, match=f"holds {WINDOW - 1} of {WINDOW} responses"):
        drift.reference_json()
    feed(drift, scores(1, 1))
    assert len(json.loads(drift.reference_json())["columns"]["score.trait"]) == WINDOW


def test_a_restart_with_the_reference_goes_on_as_if_there_had_been_none(tmp_path: Path) -> None:
    reference, current = scores(0, WINDOW), scores(1, WINDOW, mean=-2, gap=3)
    first = feed(made(), reference)
    path = saved(first, tmp_path)
    again = made(reference=read_reference(path))
    assert again.reference_json() == path.read_bytes()
    assert again.report().reference_source == "file"
    assert (again.report().num_reference, again.report().num_current) == (WINDOW, 0)
    expected = feed(first, current).report()
    assert feed(again, current).report() == expected.model_copy(update={"reference_source": "file"})
    assert active(expected)


def test_the_order_of_the_probes_does_not_matter(tmp_path: Path) -> None:
    path = saved(feed(made(), scores(0, WINDOW)), tmp_path)
    turned = made(probes=dict(reversed(PROBES.items())), reference=read_reference(path))
    current = scores(1, WINDOW, mean=-2, gap=3)
    straight = made(reference=read_reference(path))
    signals = feed(straight, current).report().signals
    assert feed(turned, current).report().signals == signals


def test_a_reference_longer_than_the_window_is_taken_whole(tmp_path: Path) -> None:
    path = saved(feed(made(window=2 * WINDOW), scores(0, 2 * WINDOW)), tmp_path)
    drift = feed(made(reference=read_reference(path)), scores(1, WINDOW))
    report = drift.report()
    assert (report.num_reference, report.num_current) == (2 * WINDOW, WINDOW)
    assert report.signals["score.trait"].psi is not None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights_sha256": "other"}, "other model weights "),
        ({"template_sha256": "other"}, "other chat template "),
        ({"probes": {"trait": PROBES["trait"]}}, "probes and columns .* served: trait"),
        ({"probes": PROBES | {"watch": PROBES["trait"]}}, "other probes "),
    ],
)
def test_a_reference_of_something_else_is_refused_and_what_differs_is_named(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    reference = read_reference(saved(feed(made(), scores(0, WINDOW)), tmp_path))
    with pytest.raises(UsageError, match=words):
        made(reference=reference, **changes)
    made(reference=reference)


def test_a_probe_is_known_by_everything_that_decides_its_score() -> None:
    probe = PROBES["trait"]
    others = [
        Probe("trait", torch.ones(4) * 2, 0.5, 1, "mean"),
        Probe("trait", torch.ones(4), 0.6, 1, "mean"),
        Probe("trait", torch.ones(4), 0.5, 2, "mean"),
        Probe("trait", torch.ones(4), 0.5, 1, "max"),
    ]
    assert len({probe_sha256(one) for one in (probe, *others)}) == 5
    assert probe_sha256(Probe("renamed", torch.ones(4), 0.5, 1, "mean")) == probe_sha256(probe)


GOOD = {
    "version": 1,
    "weights_sha256": "w",
    "template_sha256": "t",
    "probes": {},
    "columns": {"base_reward": [0.0] * WINDOW, "response_tokens": [1.0] * WINDOW},
}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "file: Invalid JSON"),
        (b"{}", "weights_sha256: Field required"),
        (json.dumps(GOOD | {"version": 2}).encode(), "version: Input should be 1"),
        (json.dumps(GOOD | {"more": 1}).encode(), "more: Extra inputs"),
        (json.dumps(GOOD | {"columns": {"a": [None]}}).encode(), "columns.a.0"),
        (json.dumps(GOOD | {"columns": {"a": [float("nan")]}}).encode(), "file: Invalid JSON|a.0"),
        (json.dumps(GOOD | {"columns": {}}).encode(), "columns of one length"),
        (
            json.dumps(GOOD | {"columns": {"a": [0.0] * WINDOW, "b": [0.0]}}).encode(),
            "columns of one length, at least 128, has",
        ),
        (json.dumps(GOOD | {"columns": {"a": [0.0] * 127}}).encode(), "at least 128, has .127."),
    ],
)
def test_a_file_that_is_no_reference_is_refused_by_name_and_place(
    content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"--drift-reference .*r.json: .*{words}") as told:
        read_reference(path)
    assert "\n" not in str(told.value)
    path.write_text(json.dumps(GOOD))
    assert len(read_reference(path).columns) == 2


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be read .FileNotFoundError"):
        read_reference(tmp_path / "absent")


def test_windows_of_a_replaced_probe_begin_again_and_its_new_identity_is_saved() -> None:
    drift = feed(made(), scores(0, WINDOW))
    feed(drift, scores(1, WINDOW, mean=-9))
    assert ("trait", "diluted") not in active(drift.report())
    kept = drift.report().signals
    new = Probe("trait", torch.full((4,), 2.0), 0.5, 2, "mean")
    drift.restart(new)
    report = drift.report()
    assert report.signals["score.trait"].reference is None
    assert {name for name, signal in report.signals.items() if signal == kept[name]} == {
        "base_reward",
        "response_tokens",
        "score.watch",
        "gap.watch",
    }
    with pytest.raises(NotReady, match=f"holds 0 of {WINDOW}"):
        drift.reference_json()
    feed(drift, scores(2, WINDOW))
    saved = json.loads(drift.reference_json())
    assert saved["probes"] == {"trait": probe_sha256(new), "watch": probe_sha256(PROBES["watch"])}
    assert {len(column) for column in saved["columns"].values()} == {WINDOW}
    expected = [score.readings["trait"].score for score in scores(2, WINDOW)]
    assert saved["columns"]["score.trait"] == pytest.approx(expected, rel=1e-6)
    # From here on its windows are compared as before: a fall that the monitor does not follow.
    evading = [
        Score(s.base_reward, {**s.readings, "trait": Reading(-9.0, -9.0, -9.0)})
        for s in scores(3, WINDOW)
    ]
    assert not active(drift.report())
    feed(drift, evading)
    assert ("trait", "diluted") in active(drift.report())


def test_a_response_scored_by_the_old_probe_enters_no_window_of_the_new() -> None:
    drift = feed(made(), scores(0, WINDOW))
    (late,) = scores(1, 1)
    drift.record(Score(late.base_reward, {"watch": late.readings["watch"]}), 10)
    signals = drift.report().signals
    assert signals["score.trait"].current is None
    assert signals["score.watch"].current is not None
    assert drift.report().num_current == 1
