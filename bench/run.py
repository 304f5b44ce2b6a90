"""One run: start the arms, measure every cell arm by arm, keep all measurements.

A cell is a workload and a way of sending it. Within a cell the arms take turns on the same texts,
in an order that rotates from one repetition to the next. The texts are fresh in every cell and
repetition. Measurements that a goal needs are repeated; all others are made once.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from bench.arms.table import Arm
from bench.goals import OPEN_COMMON, Goal, repeated
from bench.live import LiveArm, Measure, bring_up, measure
from bench.load import workloads
from bench.load.loops import arrivals
from bench.load.workloads import BenchText
from bench.machine import Matmul, distinct_tokens, flops_per_token
from bench.options import BenchOptions
from candor.jobs.running.processes import StartFailed

CELLS = ("groups/single", "unique/single", "groups/batch", "unique/batch")
OPEN_ARMS = ("packed", "vllm-tuned")
OPEN_LOADS = (0.3, 0.6, 0.9)
COMMON_LOAD = 0.6
"""Load of the open loop that compares two arms, as a share of the smaller capacity of the two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchPlan:
    """What to measure: the options, and the dtype, arms and workloads that they name.

    Attributes:
        logs: folder for the logs of the arms.
        goals: the goals that the run is measured for.
    """

    options: BenchOptions
    dtype: str
    arms: Sequence[Arm]
    workloads: Sequence[str]
    logs: Path
    goals: Sequence[Goal]


@dataclass(slots=True)
class Outcome:
    """The results of a run: a record per measurement, figures per arm, the texts that were sent."""

    records: list[dict[str, Any]] = field(default_factory=list)
    arms: dict[str, dict[str, Any]] = field(default_factory=dict)
    texts: dict[str, list[BenchText]] = field(default_factory=dict)
    flops_per_token: int = 0


class BenchRun:
    """A run in progress."""

    def __init__(self, plan: BenchPlan) -> None:
        self.plan = plan
        self.options = plan.options
        self.outcome = Outcome(flops_per_token=flops_per_token(plan.options.model))
        self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(plan.options.model)
        self._matmul = Matmul(plan.dtype)
        self._lives: dict[str, LiveArm] = {}
        self._num_warm_ups = 0

    def go(self) -> Outcome:
        """Start the arms one after the other, measure, and stop them."""
        with ExitStack() as stack:
            stack.callback(self._note_arms)
            for arm in self.plan.arms:
                self._start(arm, stack)
            for repetition in range(self.options.repetitions):
                for cell in CELLS:
                    if cell.partition("/")[0] in self.plan.workloads:
                        self._closed(cell, repetition)
                if "open" in self.plan.workloads:
                    self._open(repetition)
        return self.outcome

    def _note_arms(self) -> None:
        """Note the figures of each arm at the end of the run, even of a run that is stopped."""
        for name, live in self._lives.items():
            self.outcome.arms[name] |= {
                "start_s": live.running.start_s,
                "peak_bytes": live.running.peak_bytes,
                "memory": live.running.memory,
                "about": live.about,
            }

    def _start(self, arm: Arm, stack: ExitStack) -> None:
        interpreter, *rest = arm.command(0)
        # The interpreter's folder is left out: the versions in the result say which Python it is.
        entry = {"title": arm.title, "command": [Path(interpreter).name, *rest]}
        self.outcome.arms[arm.name] = entry | {"missing": arm.missing or "not started"}
        if arm.missing:
            say(f"{arm.title}: left out: {arm.missing}")
            return
        log = self.plan.logs / f"{arm.name}.log"
        try:
            live = stack.enter_context(bring_up(arm, log, self._warm_up(16)))
        except StartFailed as error:
            self._leave_out(arm.name, str(error))
            return
        self._lives[arm.name] = live
        self.outcome.arms[arm.name]["missing"] = ""
        say(f"{arm.title}: up in {live.running.start_s:.1f} s")

    def _leave_out(self, name: str, reason: str) -> None:
        self.outcome.arms[name]["missing"] = reason.partition("\n")[0]  # the rest is its log
        self._lives.pop(name, None)
        say(f"{self.outcome.arms[name]['title']}: left out: {reason}")

    def _closed(self, cell: str, repetition: int) -> None:
        """Measure one cell once with each arm that takes part in it in this repetition."""
        workload, _, mode = cell.partition("/")
        texts = self._draw(workload, mode, repetition)
        distinct = distinct_tokens(self._token_ids(texts))
        how = Measure(mode, self.options.concurrency)
        for live in self._turns(cell, repetition):
            record = self._measure(live, texts, how)
            if record is None:
                continue
            rate = statistics.fmean(record["matmul_flops_per_s"])
            limit_s = distinct * self.outcome.flops_per_token / rate
            record |= {
                "cell": cell,
                "repetition": repetition,
                "num_distinct_tokens": distinct,
                "limit_scores_per_s": len(texts) / limit_s,
                "share_of_limit": limit_s / record["seconds"],
            }
            self._keep(record)

    def _open(self, repetition: int) -> None:
        """The open loops. In the first repetition: the capacity of each arm, and 30, 60 and 90 % of
        it. In every repetition: one rate that is common to all arms."""
        if repetition == 0:
            self._capacity([name for name in OPEN_ARMS if name in self._lives])
        capacity = {
            record["arm"]: record["scores_per_s"]
            for record in self.outcome.records
            if record["cell"] == "open/capacity" and not record["errors"]
        }
        order = rotated(list(capacity), repetition)
        if repetition == 0:
            for share in OPEN_LOADS:
                for name in order:
                    self._arrive(name, f"open/{share:.0%}", repetition, share * capacity[name])
        common = COMMON_LOAD * min(capacity.values(), default=0.0)
        for name in order if common else ():
            self._arrive(name, OPEN_COMMON, repetition, common)

    def _capacity(self, names: Sequence[str]) -> None:
        texts = self._draw("open", "capacity", 0)
        for name in names:
            how = Measure("single", self.options.concurrency)
            if record := self._measure(self._lives[name], texts, how):
                self._keep(record | {"cell": "open/capacity", "repetition": 0})

    def _arrive(self, name: str, cell: str, repetition: int, rate: float) -> None:
        if name not in self._lives:
            return
        due = arrivals(f"{self.options.seed}/{cell}/{repetition}", rate, self.options.open_s)
        texts = self._draw("open", cell, repetition, len(due))
        how = Measure("open", due=due, seconds=self.options.open_s)
        if record := self._measure(self._lives[name], texts, how):
            self._keep(record | {"cell": cell, "repetition": repetition, "rate_per_s": rate})

    def _turns(self, cell: str, repetition: int) -> Iterator[LiveArm]:
        """The arms of a cell, in the order of this repetition."""
        names = [
            name
            for name, live in self._lives.items()
            if cell in live.arm.cells and (repetition == 0 or repeated(cell, name, self.plan.goals))
        ]
        for name in rotated(names, repetition):
            yield self._lives[name]

    def _measure(
        self, live: LiveArm, texts: Sequence[BenchText], how: Measure
    ) -> dict[str, Any] | None:
        """One measurement; None if the arm has died, which leaves it out of the rest of the run."""
        try:
            return measure(live, texts, self._warm_up(4), self._matmul, how)
        except StartFailed as error:
            self._leave_out(live.arm.name, f"died during the run: {error}")
            return None

    def _keep(self, record: dict[str, Any]) -> None:
        self.outcome.records.append(record)
        tail = f", errors {record['errors']}" if record["errors"] else ""
        if "p99_s" in record:
            tail = f", p99 {record['p99_s']:.2f} s{tail}"
        say(
            f"{record['cell']} repetition {record['repetition']} {record['arm']}: "
            f"{record['seconds']:.1f} s, {record['scores_per_s']:.2f} scores/s{tail}"
        )

    def _draw(
        self, workload: str, mode: str, repetition: int, num_items: int | None = None
    ) -> list[BenchText]:
        """Draw the texts of one cell and repetition, and note them for the result."""
        seed = (self.options.seed, mode, repetition)
        count = self.options.items if num_items is None else num_items
        texts = workloads.draw(workload, seed, count, self._wrap)
        name = f"{workload}/{mode}/{repetition}"
        kept = self.outcome.texts.get(name, [])
        if len(texts) > len(kept):  # an arm with a higher rate gets more texts of the same draw
            self.outcome.texts[name] = texts
        return texts

    def _warm_up(self, count: int) -> list[BenchText]:
        self._num_warm_ups += 1
        seed = (self.options.seed, "warm-up", self._num_warm_ups)
        return workloads.draw("open", seed, count, self._wrap)

    def _wrap(self, words: str) -> str:
        if self._tokenizer.chat_template is None:
            return f"{words}\n"
        turns = [{"role": "user", "content": words}]
        text = self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        return str(text)

    def _token_ids(self, texts: Sequence[BenchText]) -> list[list[int]]:
        whole = [text.context + text.response for text in texts]
        ids: list[list[int]] = self._tokenizer(whole, add_special_tokens=False).input_ids
        return ids


def rotated(names: Sequence[str], by: int) -> list[str]:
    """The names as a circle that starts `by` places later."""
    return [names[(number + by) % len(names)] for number in range(len(names))]


def say(line: str) -> None:
    """One line of progress, on stderr."""
    print(f"bench: {line}", file=sys.stderr, flush=True)
