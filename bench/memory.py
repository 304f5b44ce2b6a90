"""`python -m bench.memory`: does the server's memory grow over 20,000 requests?

The texts are tiny and fresh, and are sent as single requests at concurrency 32. The memory is read
at the start and after every 2,000 requests. Growth in the second half is what counts, because
caches with a limit in bytes fill up in the first.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path
from typing import Annotated

import orjson
from cyclopts import App, Parameter

from bench.arms.servers import tree_bytes
from bench.arms.table import all_arms
from bench.arms.tiny import save_tiny
from bench.live import bring_up
from bench.load.loops import closed_loop
from bench.load.wire import CANDOR
from bench.load.workloads import WORDS, BenchText
from bench.machine import pick_dtype
from bench.run import say

app = App(name="python -m bench.memory")


@app.default
def memory(
    *,
    model: str = "build/demo/model",
    probe: Annotated[list[str] | None, Parameter(negative="")] = None,
    requests: int = 20_000,
    every: int = 2_000,
    quick: bool = False,
) -> None:
    """Read the server's memory while many small requests are sent.

    Parameters
    ----------
    model
        Folder of the reward model.
    probe
        Folder of a probe to serve with it; may be repeated.
    requests
        Number of requests.
    every
        Requests between two readings of the memory.
    quick
        Use a tiny random model.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if quick:
            model = str(save_tiny(folder / "model"))
        (arm, *_) = all_arms(model, probe or [], pick_dtype("auto"))
        draw = random.Random(0)
        with bring_up(arm, folder / "server.log", _texts(draw, 64)) as live, live.awake():
            pid, url = live.running.process.pid, live.running.url
            readings = [(0, tree_bytes(pid))]
            errors: dict[str, int] = {}
            while (done := readings[-1][0]) < requests:
                count = min(every, requests - done)
                errors |= asyncio.run(closed_loop(url, CANDOR, _texts(draw, count), 32)).errors
                readings.append((done + count, tree_bytes(pid)))
                say(f"{done + count} requests: {readings[-1][1] / 2**20:.1f} MiB")
            live.running.read_memory()
            peak = live.running.peak_bytes
    half = readings[len(readings) // 2][1]
    result = {
        "readings": readings,
        "peak_bytes": peak,
        "grown_bytes": readings[-1][1] - readings[0][1],
        "grown_second_half_bytes": readings[-1][1] - half,
        "errors": errors,
    }
    print(orjson.dumps(result).decode())


def _texts(draw: random.Random, count: int) -> list[BenchText]:
    """Contexts and responses of four words."""

    def words() -> str:
        return " ".join(draw.choices(WORDS, k=4))

    return [BenchText(number, f"{words()}\n", words()) for number in range(count)]


if __name__ == "__main__":
    app()
