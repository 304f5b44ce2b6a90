"""The trainer's callback: a row per step, an evaluation every k steps, the guards, and signals.

After the first SIGINT or SIGTERM the step is finished and saved, and the same command continues
from there. A second signal ends the process at once, and the run continues from its last
checkpoint.
"""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from candor.client.trl import METRICS
from candor.jobs.rl.drift import DriftReading, DriftWatch
from candor.jobs.rl.evaluation.evaluate import Evaluation, numbers_told
from candor.jobs.rl.reference import UntrainedReference
from candor.jobs.rl.settings import Guards
from candor.jobs.rl.step_log import StepLog, step_key
from candor.jobs.running.exits import Exit, JobStopped
from candor.jobs.running.files import Row
from candor.jobs.running.progress import duration

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Why = Literal["done", "drift_alarm", "quality_floor", "interrupted"]


@dataclass(frozen=True, slots=True)
class RunEnd:
    """Why no further step is taken."""

    why: Why
    reason: str


class Watch(TrainerCallback):
    """The callback of one run.

    Args:
        steps, evaluations: step logs, already cut back to where the run continues.
        evaluation: None evaluates nothing.
        every: steps between evaluations; the first and the last step are evaluated too.
        drift: None where the server shows no drift report.
        reference: fills the server's drift reference before the first step; None fills nothing.
    """

    def __init__(
        self,
        *,
        steps: StepLog,
        evaluations: StepLog,
        evaluation: Evaluation | None,
        every: int,
        drift: DriftWatch | None,
        guards: Guards,
        reference: UntrainedReference | None = None,
    ) -> None:
        self.ended: RunEnd | None = None
        self._steps = steps
        self._evaluations = evaluations
        self._evaluation = evaluation
        self._every = every
        self._drift = drift
        self._guards = guards
        self._reference = reference
        self._began, self._first_step = time.monotonic(), 0

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        if self._reference is not None:
            self._reference.fill(kwargs["model"], kwargs["processing_class"], state.global_step)
        if state.global_step == 0 and not self._evaluations.rows():
            self._evaluate(0, kwargs)
        if self.ended is not None:  # by a signal during the evaluation
            raise JobStopped(Exit.INTERRUPTED, self.ended.reason)
        self._began, self._first_step = time.monotonic(), state.global_step

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        step = state.global_step
        if step == state.max_steps or (self._every and step % self._every == 0):
            self._evaluate(step, kwargs)
        self._stop_if_ended(control)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs is None or "loss" not in logs:  # the summary at the end of training
            return
        reading = self._drift.read() if self._drift is not None else None
        row = step_row(state.global_step, logs, reading)
        self._steps.append(row)
        numbers = ", ".join(
            f"{name} {row[name]:.3f}"
            for name in ("base_reward", "penalty", "kl", "step_s")
            if row[name] is not None
        )
        left_s = self._seconds_left(state)
        print(
            f"candor: step {row['step']} of {state.max_steps}: {numbers}; about "
            f"{duration(left_s)} left",
            file=sys.stderr,
        )
        if self._guards.stop_on_alarm and reading is not None and reading.alarms:
            self._end("drift_alarm", "; ".join(reading.alarms))
        self._stop_if_ended(control)

    def _seconds_left(self, state: TrainerState) -> float:
        """By the steps that this process has taken, evaluations among them included."""
        taken = max(1, state.global_step - self._first_step)
        return (time.monotonic() - self._began) / taken * (state.max_steps - state.global_step)

    @contextlib.contextmanager
    def stopping_on_signal(self) -> Iterator[None]:
        """Within the block, SIGINT and SIGTERM end the run after the current step."""

        def stop(*_: object) -> None:
            self._end("interrupted", "interrupted; the same command continues from here")
            for number in handlers:
                signal.signal(number, signal.SIG_DFL)  # the next signal ends the process at once
            print(
                "candor: finishing this step; a second signal ends the run at once",
                file=sys.stderr,
            )

        handlers = {number: signal.signal(number, stop) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _evaluate(self, step: int, given: dict[str, Any]) -> None:
        if self._evaluation is None:
            return
        row = self._evaluation.measure(given["model"], given["processing_class"], step_key(step))
        self._evaluations.append({"step": step, **row})
        told = [
            f"{name} {row[name]['mean']:.3f}"
            for name in (*numbers_told(self._evaluation.kind), "kl")
            if row.get(name) is not None and row[name]["mean"] is not None
        ]
        print(f"candor: step {step}: {', '.join(told)}", file=sys.stderr)
        floor, neutral = self._guards.quality_floor, row["neutral_base_reward"]["mean"]
        start = self._evaluations.rows()[0]["neutral_base_reward"]["mean"]
        if floor is not None and neutral is not None and neutral < start - floor:
            self._end(
                "quality_floor",
                f"mean neutral R is {neutral:.3f}, {start - neutral:.3f} below its start",
            )

    def _end(self, why: Why, reason: str) -> None:
        if self.ended is None:
            self.ended = RunEnd(why, reason)

    def _stop_if_ended(self, control: TrainerControl) -> None:
        if self.ended is not None:
            control.should_save = True
            control.should_training_stop = True


def step_row(step: int, logs: dict[str, Any], reading: DriftReading | None) -> Row:
    """The row of a step: means over its responses, and the monitors' means over the server's
    window.

    `reward` is what the policy was optimised for, `kl` is TRL's estimate per token (k3),
    `num_tokens` is the mean length of a completion, and `share_cut` is the share of completions
    that reached the limit. A mean of nothing is null, and so are the alarms of a server whose
    windows are not full: none could be active.
    """
    ours = {name.removeprefix(METRICS): logs[name] for name in logs if name.startswith(METRICS)}

    def by_probe(metric: str) -> dict[str, Any]:
        return {
            name.removeprefix(f"{metric}/"): _finite(value)
            for name, value in ours.items()
            if name.startswith(f"{metric}/")
        }

    return {
        "step": step,
        "reward": _finite(logs.get("reward")),
        "reward_std": _finite(logs.get("reward_std")),
        "base_reward": _finite(ours.get("base_reward")),
        "penalty": _finite(ours.get("penalty")),
        "scores": by_probe("score"),
        "lambdas": by_probe("lambda"),
        "num_failed": ours.get("num_failed"),
        "kl": _finite(logs.get("kl")),
        "entropy": _finite(logs.get("entropy")),
        "num_tokens": logs.get("completions/mean_length"),
        "share_cut": logs.get("completions/clipped_ratio"),
        "loss": _finite(logs.get("loss")),
        "grad_norm": _finite(logs.get("grad_norm")),
        "step_s": logs.get("step_time"),
        "monitors": None if reading is None else reading.monitors,
        "alarms": reading.alarms if reading is not None and reading.compared else None,
    }


def _finite(value: Any) -> float | None:
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None
