"""The guards and the rows of the callback, without a trainer: it is given what a trainer gives."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from candor.jobs.rl.drift import DriftReading
from candor.jobs.rl.settings import Guards
from candor.jobs.rl.step_log import StepLog
from candor.jobs.rl.watch import Watch, step_row
from candor.jobs.running.exits import Exit, JobStopped
from candor.jobs.running.files import Row

ARGS = TrainingArguments(use_cpu=True)
QUIET = DriftReading({"unseen": 0.25}, 128, [])
ALARM = DriftReading({"unseen": 0.25}, 128, ["sycophancy: diluted: S moved by -0.91 std"])


class Falling:
    """An evaluation whose neutral R falls by 0.5 each time."""

    kind = "feedback"

    def __init__(self) -> None:
        self.measured: list[str] = []

    def measure(self, model: Any, tokenizer: Any, name: str) -> Row:
        self.measured.append(name)
        return {
            "gap": {"mean": 0.1},
            "neutral_base_reward": {"mean": 2.0 - 0.5 * len(self.measured)},
        }


class Reads:
    """A drift report that says what it is told."""

    def __init__(self, *readings: DriftReading | None) -> None:
        self.readings = list(readings)

    def read(self) -> DriftReading | None:
        return self.readings.pop(0)


def watch(folder: Path, **changed: Any) -> Watch:
    given = {
        "steps": StepLog(folder / "steps.jsonl"),
        "evaluations": StepLog(folder / "evals.jsonl"),
        "evaluation": None,
        "every": 0,
        "drift": None,
        "guards": Guards(stop_on_alarm=True, quality_floor=None),
    }
    return Watch(**(given | changed))


def take(watch: Watch, steps: int, of: int = 10) -> tuple[int, TrainerControl]:
    """Steps as the trainer takes them, until it is told to stop; how many, and the control."""
    state, control = TrainerState(max_steps=of), TrainerControl()
    given = {"model": None, "processing_class": None}
    watch.on_train_begin(ARGS, state, control, **given)
    for step in range(1, steps + 1):
        state.global_step = step
        watch.on_step_end(ARGS, state, control, **given)
        watch.on_log(ARGS, state, control, {"loss": 0.1, "candor/base_reward": 1.0})
        if control.should_training_stop:
            return step, control
    return steps, control


@pytest.mark.parametrize(("floor", "stops_at"), [(0.4, 2), (0.9, 4), (1.0, 6), (None, 10)], ids=str)
def test_the_run_ends_where_neutral_r_falls_below_the_floor(
    tmp_path: Path, floor: float | None, stops_at: int
) -> None:
    """Measured at 0, 2, 4, ...: 0.5 below the start at 2, 1.0 at 4 (no more than a floor of 1)."""
    watched = watch(tmp_path, evaluation=Falling(), every=2, guards=Guards(quality_floor=floor))
    step, control = take(watched, 10)
    assert step == stops_at
    if floor is not None:
        assert watched.ended is not None
        assert watched.ended.why == "quality_floor"
        assert "below its start" in watched.ended.reason
        assert control.should_save


def test_the_start_is_the_run_s_own_also_after_it_went_on(tmp_path: Path) -> None:
    StepLog(tmp_path / "evals.jsonl").append(
        {"step": 0, "neutral_base_reward": {"mean": 9.0}, "gap": {"mean": 0.0}}
    )
    evaluation = Falling()
    watched = watch(tmp_path, evaluation=evaluation, every=1, guards=Guards(quality_floor=1.0))
    assert take(watched, 5)[0] == 1
    assert evaluation.measured == ["step-00001"]


def test_each_step_says_what_is_left_by_the_steps_of_this_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    watched = watch(tmp_path)
    state, control = TrainerState(max_steps=10, global_step=4), TrainerControl()
    watched.on_train_begin(ARGS, state, control, model=None, processing_class=None)
    for step, seconds in ((5, 30.0), (6, 10.0)):
        state.global_step = step
        now[0] += seconds
        watched.on_log(ARGS, state, control, {"loss": 0.1, "candor/base_reward": 1.0})
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("candor: step 5 of 10: base_reward 1.000")
    assert first.endswith("; about 2 min left")  # 30 s per step, 5 steps
    assert second.endswith("; about 80 s left")  # 20 s per step, 4 steps


def test_an_alarm_ends_the_run_with_its_reason_and_its_step_is_kept(tmp_path: Path) -> None:
    watched = watch(tmp_path, drift=Reads(QUIET, None, ALARM))
    step, control = take(watched, 10)
    assert step == 3
    assert control.should_save
    assert watched.ended is not None
    assert (watched.ended.why, watched.ended.reason) == ("drift_alarm", ALARM.alarms[0])
    rows = StepLog(tmp_path / "steps.jsonl").rows()
    assert [row["alarms"] for row in rows] == [[], None, ALARM.alarms]
    assert [row["monitors"] for row in rows] == [{"unseen": 0.25}, None, {"unseen": 0.25}]


def test_an_alarm_is_only_kept_where_it_is_no_guard(tmp_path: Path) -> None:
    watched = watch(tmp_path, drift=Reads(*[ALARM] * 4), guards=Guards(stop_on_alarm=False))
    assert take(watched, 4)[0] == 4
    assert watched.ended is None
    assert StepLog(tmp_path / "steps.jsonl").rows()[3]["alarms"] == ALARM.alarms


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_and_handlers_come_back(
    tmp_path: Path, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    watched = watch(tmp_path)
    state, control = TrainerState(max_steps=10), TrainerControl()
    with watched.stopping_on_signal():
        watched.on_train_begin(ARGS, state, control)
        os.kill(os.getpid(), number)
        state.global_step = step = 1
        watched.on_step_end(ARGS, state, control)
    assert control.should_training_stop
    assert (step, control.should_save) == (1, True)
    assert watched.ended is not None
    assert watched.ended.why == "interrupted"
    assert signal.getsignal(number) is before


def test_a_signal_during_the_first_evaluation_ends_it_before_the_first_step(
    tmp_path: Path,
) -> None:
    class Signalled(Falling):
        def measure(self, model: Any, tokenizer: Any, name: str) -> Row:
            os.kill(os.getpid(), signal.SIGTERM)
            return super().measure(model, tokenizer, name)

    watched = watch(tmp_path, evaluation=Signalled())
    with watched.stopping_on_signal(), pytest.raises(JobStopped) as stopped:
        take(watched, 10)
    assert stopped.value.code is Exit.INTERRUPTED
    assert [row["step"] for row in StepLog(tmp_path / "evals.jsonl").rows()] == [0]


def test_a_row_holds_what_was_logged_and_null_for_what_has_no_number() -> None:
    logs = {
        "loss": 0.5,
        "reward": float("nan"),
        "kl": 0.01,
        "completions/mean_length": 12.0,
        "candor/base_reward": 1.5,
        "candor/score/sycophancy": -0.5,
        "candor/lambda/sycophancy": 2.0,
        "candor/num_failed": 0,
    }
    row = step_row(7, logs, None)
    assert row["step"] == 7
    assert (row["reward"], row["kl"], row["base_reward"]) == (None, 0.01, 1.5)
    assert row["scores"] == {"sycophancy": -0.5}
    assert row["lambdas"] == {"sycophancy": 2.0}
    assert row["num_tokens"] == 12.0
    assert (row["grad_norm"], row["monitors"], row["alarms"]) == (None, None, None)


def test_alarms_are_null_while_none_could_be_active() -> None:
    filling = DriftReading({"unseen": 0.25}, 12, [], compared=False)
    assert step_row(1, {}, filling)["alarms"] is None
    assert step_row(1, {}, filling)["monitors"] == {"unseen": 0.25}
    assert step_row(1, {}, QUIET)["alarms"] == []
    assert step_row(1, {}, None)["alarms"] is None
