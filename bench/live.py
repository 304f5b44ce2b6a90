"""One arm, up and running: woken, asked for the scores of some texts, paused again."""

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
from bench.load import loops as load
from bench.load.workloads import Text
from bench.machine import Matmul, OthersCpu
from candor.jobs.running.processes import StartFailed, free_port, stop, tail, wait_ready

START_S = 900.0
"""A vLLM that compiles for the first time, on two busy cores."""


@dataclass
class Live:
    """A started arm, paused unless it is being measured.

    Attributes:
        about: what it says of its model and engine.
        log: its output, for the reason when it fails.
    """

    arm: Arm
    running: Running
    log: Path
    about: Any = field(default=None)

    def score(self, texts: Sequence[Text], mode: str, concurrency: int) -> load.Load:
        """The texts through this arm.

        Args:
            mode: `single` requests, `concurrency` at a time, or one `batch`. The bare engine has
                one mode: all texts.
        """
        wire = self.arm.wire
        if wire is None:
            return self._through_pipe(texts)
        if mode == "batch":
            return asyncio.run(load.whole_batch(self.running.url, wire, texts))
        return asyncio.run(load.closed_loop(self.running.url, wire, texts, concurrency))

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Runs between the marks; a server answers as ready first."""
        with suppress(ProcessLookupError):  # it has died: said below, with its last words
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

    def _through_pipe(self, texts: Sequence[Text]) -> load.Load:
        pairs = [(text.context, text.response) for text in texts]
        answer = ask(self.running.process, pairs, self.log)
        seconds = float(answer["seconds"])
        whole = load.Sent(
            due=0.0,
            sent=0.0,
            done=seconds,
            rewards=tuple(answer["rewards"]),
            num_tokens=answer["num_tokens"],
            num_computed_tokens=answer["num_computed_tokens"],
            error="",
        )
        return load.Load([whole], seconds)


@contextmanager
def bring_up(arm: Arm, log: Path, warm_up: Sequence[Text]) -> Iterator[Live]:
    """The arm started, warmed up on `warm_up` and paused; stopped when the block ends.

    Raises:
        StartFailed: it did not come up, or could not score.
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
        live = Live(arm, running, log, _about(running.url))
        with live.awake():
            # One by one first: a rate learnt from a cold forward would have a queue refused.
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
    """One line to the process (none for None), and the line it answers.

    Raises:
        StartFailed: it ended.
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
    """How the texts are sent: a mode and a concurrency, or an open loop's due times."""

    mode: str
    concurrency: int = 32
    due: Sequence[float] | None = None
    seconds: float = math.nan
    """Over which an open loop's requests are due."""

    def run(self, live: Live, texts: Sequence[Text]) -> load.Load:
        if self.due is None:
            return live.score(texts, self.mode, self.concurrency)
        assert live.arm.wire is not None
        return asyncio.run(load.open_loop(live.running.url, live.arm.wire, texts, self.due))


def measure(
    live: Live, texts: Sequence[Text], warm_up: Sequence[Text], matmul: Matmul, how: Measure
) -> dict[str, Any]:
    """One measurement as the result keeps it, with the matmul rate just before and after.

    Every other arm is paused; this one is woken and warmed up before the clock starts.
    """
    before = matmul.flops_per_s()
    with live.awake():
        live.score(warm_up, "single", 4)
        others, cpu_s = OthersCpu(), live.running.cpu_s()
        came = how.run(live, texts)
        arm_s = live.running.cpu_s() - cpu_s
        others_s = others.seconds(arm_s)
    after = matmul.flops_per_s()
    record: dict[str, Any] = {
        "arm": live.arm.name,
        "seconds": came.seconds,
        "num_items": len(texts),
        "num_tokens": came.num_tokens,
        "num_computed_tokens": came.num_computed_tokens,
        "scores_per_s": len(came.rewards) / came.seconds,
        "errors": came.errors,
        "rewards": came.rewards,
        "arm_cpu_s": arm_s,
        "others_cpu_s": others_s,
        "matmul_flops_per_s": [before, after],
        "load_average": os.getloadavg()[0],
    }
    if how.due is not None:
        record |= load.latency(came, how.seconds)
        record["requests"] = [
            [round(at, 6) for at in (request.due, request.sent, request.done)]
            for request in came.requests
        ]
    return record
