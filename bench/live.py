"""A running arm: it is woken, asked for the scores of some texts, and paused again."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from bench.arms.servers import Running, clean_environment, started
from bench.arms.table import Arm
from bench.load import loops
from bench.load.workloads import BenchText
from bench.machine import Matmul, OthersCpu
from candor.jobs.running.processes import StartFailed, free_port, stop, tail, wait_ready

START_S = 900.0
"""Longest wait for a start: vLLM that compiles for the first time, on two busy cores."""


@dataclass
class LiveArm:
    """A started arm. It is paused except while it is measured.

    Attributes:
        log: the output of its process; errors quote its end.
        about: the arm's answer to `/v1/models`.
    """

    arm: Arm
    running: Running
    log: Path
    about: Any = field(default=None)

    def score(self, texts: Sequence[BenchText], mode: str, concurrency: int) -> loops.Load:
        """Send the texts to this arm.

        Args:
            mode: `single` requests, `concurrency` at a time, or all texts in one `batch`. The
                engine without a server always takes all texts at once.
        """
        wire = self.arm.wire
        if wire is None:
            return self._through_pipe(texts)
        if mode == "batch":
            return asyncio.run(loops.whole_batch(self.running.url, wire, texts))
        return asyncio.run(loops.closed_loop(self.running.url, wire, texts, concurrency))

    @contextmanager
    def awake(self) -> Iterator[None]:
        """The arm runs until the block ends; the block is entered when its server is ready."""
        with suppress(ProcessLookupError):  # it has died: `wait_ready` says so
            self.running.resume()
        try:
            if self.arm.wire is not None:
                url = self.running.url + self.arm.wire.ready
                wait_ready(self.running.process, url, self.log, 60)
            yield
        finally:
            self.running.read_memory()
            with suppress(ProcessLookupError):
                self.running.pause()

    def _through_pipe(self, texts: Sequence[BenchText]) -> loops.Load:
        pairs = [(text.context, text.response) for text in texts]
        answer = ask(self.running.process, pairs, self.log)
        seconds = float(answer["seconds"])
        whole = loops.Sent(
            due=0.0,
            sent=0.0,
            done=seconds,
            rewards=tuple(answer["rewards"]),
            num_tokens=answer["num_tokens"],
            num_computed_tokens=answer["num_computed_tokens"],
            error="",
        )
        return loops.Load([whole], seconds)


@contextmanager
def bring_up(arm: Arm, log: Path, warm_up: Sequence[BenchText]) -> Iterator[LiveArm]:
    """Start the arm, score `warm_up` with it, pause it; stop it when the block ends.

    Raises:
        StartFailed: the arm did not start, or could not score.
    """
    if arm.wire is None:
        up = _started_pipe(arm, log)
    else:
        port = free_port()
        up = started(
            arm.command(port),
            url=f"http://127.0.0.1:{port}",
            ready=arm.wire.ready,
            log=log,
            timeout_s=START_S,
            environment=arm.environment,
        )
    with up as running:
        live = LiveArm(arm, running, log, _about(running.url))
        with live.awake():
            # One text at a time first: after a slow first forward, a server that predicts its waits
            # would refuse a queue.
            first = live.score(warm_up[:2], "single", 1).errors
            if errors := first | live.score(warm_up[2:], "single", 8).errors:
                raise StartFailed(f"cannot score: {errors}; end of {log}:\n{tail(log)}")
        yield live


@contextmanager
def _started_pipe(arm: Arm, log: Path) -> Iterator[Running]:
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with log.open("wb") as errors:
        process = subprocess.Popen(
            arm.command(0),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=clean_environment() | arm.environment,
            start_new_session=True,
        )
    try:
        ask(process, None, log)
        running = Running(process, "", time.monotonic() - began)
        running.read_memory()
        yield running
    finally:
        stop(process)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def ask(process: subprocess.Popen[bytes], question: object, log: Path) -> dict[str, Any]:
    """Send `question` to the process as a line (nothing if None), and read a line of answer.

    Raises:
        StartFailed: the process has ended.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        if question is not None:
            process.stdin.write(orjson.dumps(question, option=orjson.OPT_APPEND_NEWLINE))
            process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise StartFailed(f"exited with {process.wait()}; end of {log}:\n{tail(log)}")
    answer: dict[str, Any] = orjson.loads(line)
    return answer


def _about(url: str) -> Any:
    if not url:
        return None
    try:
        with urllib.request.urlopen(f"{url}/v1/models", timeout=10) as answer:
            return orjson.loads(answer.read())
    except OSError:  # the padded loop has no such route
        return None


@dataclass(frozen=True, slots=True)
class Measure:
    """How the texts are sent: a mode and a concurrency, or the due times of an open loop."""

    mode: str
    concurrency: int = 32
    due: Sequence[float] | None = None
    seconds: float = math.nan
    """Length of the interval in which the requests of an open loop are due."""

    def run(self, live: LiveArm, texts: Sequence[BenchText]) -> loops.Load:
        if self.due is None:
            return live.score(texts, self.mode, self.concurrency)
        assert live.arm.wire is not None
        return asyncio.run(loops.open_loop(live.running.url, live.arm.wire, texts, self.due))


def measure(
    live: LiveArm,
    texts: Sequence[BenchText],
    warm_up: Sequence[BenchText],
    matmul: Matmul,
    how: Measure,
) -> dict[str, Any]:
    """One measurement, as a record of the result.

    All other arms are paused. This arm is woken and warmed up before the clock starts. The matmul
    rate is read just before and just after.
    """
    before = matmul.flops_per_s()
    with live.awake():
        live.score(warm_up, "single", 4)
        others, cpu_s = OthersCpu(), live.running.cpu_s()
        load = how.run(live, texts)
        arm_s = live.running.cpu_s() - cpu_s
        others_s = others.seconds(arm_s)
    after = matmul.flops_per_s()
    record: dict[str, Any] = {
        "arm": live.arm.name,
        "seconds": load.seconds,
        "num_items": len(texts),
        "num_tokens": load.num_tokens,
        "num_computed_tokens": load.num_computed_tokens,
        "scores_per_s": len(load.rewards) / load.seconds,
        "errors": load.errors,
        "rewards": load.rewards,
        "arm_cpu_s": arm_s,
        "others_cpu_s": others_s,
        "matmul_flops_per_s": [before, after],
        "load_average": os.getloadavg()[0],
    }
    if how.due is not None:
        record |= loops.latency(load, how.seconds)
        record["requests"] = [
            [round(at, 6) for at in (request.due, request.sent, request.done)]
            for request in load.requests
        ]
    return record
