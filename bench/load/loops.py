"""Texts to a server, and when the answers came: closed loop, one whole batch, open loop.

A closed loop measures how much a server can do at a given concurrency. It says nothing about
waiting, because its clients send nothing while they wait. Latency is measured in an open loop, from
the moment at which a request was due, so that a client that falls behind cannot hide a wait. The
load comes from one process, apart from the servers; no process is pinned to a core.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import aiohttp

from bench.load.wire import WireFormat
from bench.load.workloads import BenchText

TIMEOUT = aiohttp.ClientTimeout(total=1800)
"""Longer than any request here: a slow answer is measured and not given up."""

LATE_S = 0.01
"""A request that is sent this long after it was due counts as late, by the client's fault."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A request and its answer. Times are in seconds since the load began."""

    due: float
    sent: float
    done: float
    rewards: tuple[float, ...]
    num_tokens: int
    num_computed_tokens: int | None
    """None where the server does not say."""
    error: str
    """Empty for a good answer."""


@dataclass(frozen=True, slots=True)
class Load:
    """The results of one load: the requests in the order of the texts."""

    requests: list[Sent]
    seconds: float

    @property
    def rewards(self) -> list[float]:
        return [reward for request in self.requests for reward in request.rewards]

    @property
    def num_tokens(self) -> int:
        return sum(request.num_tokens for request in self.requests)

    @property
    def num_computed_tokens(self) -> int | None:
        """None where the server does not say."""
        counts = [request.num_computed_tokens for request in self.requests]
        numbers = [count for count in counts if count is not None]
        return sum(numbers) if len(numbers) == len(counts) else None

    @property
    def errors(self) -> dict[str, int]:
        return dict(Counter(request.error for request in self.requests if request.error))


class _Sender:
    """A session with one server, and the clock of one load."""

    def __init__(self, session: aiohttp.ClientSession, url: str, wire: WireFormat) -> None:
        self._session = session
        self._url = url + wire.path
        self._wire = wire
        self.began = time.perf_counter()

    def now(self) -> float:
        return time.perf_counter() - self.began

    async def send(self, texts: Sequence[BenchText], body: bytes, due: float | None = None) -> Sent:
        """Send one request; every failure is returned as a `Sent` with an error."""
        sent = self.now()
        rewards: tuple[float, ...] = ()
        num_tokens, num_computed_tokens, error = 0, None, ""
        try:
            async with self._session.post(
                self._url, data=body, headers={"Content-Type": "application/json"}
            ) as response:
                payload = await response.read()
                if response.status == 200:
                    answer = self._wire.read(payload)
                    rewards, num_tokens = tuple(answer.rewards), answer.num_tokens
                    num_computed_tokens = answer.num_computed_tokens
                    if len(rewards) != len(texts):
                        error = "wrong number of rewards"
                else:
                    error = f"HTTP {response.status}"
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as failure:
            error = type(failure).__name__
        return Sent(
            due=sent if due is None else due,
            sent=sent,
            done=self.now(),
            rewards=rewards,
            num_tokens=num_tokens,
            num_computed_tokens=num_computed_tokens,
            error=error,
        )


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=TIMEOUT, connector=aiohttp.TCPConnector(limit=0))


async def closed_loop(
    url: str, wire: WireFormat, texts: Sequence[BenchText], concurrency: int
) -> Load:
    """Send single-item requests in the order of the texts, `concurrency` at a time."""
    bodies = [wire.body([text]) for text in texts]
    requests: list[Sent | None] = [None] * len(texts)
    waiting = iter(range(len(texts)))
    async with _session() as session:
        sender = _Sender(session, url, wire)

        async def client() -> None:
            for number in waiting:
                requests[number] = await sender.send([texts[number]], bodies[number])

        await asyncio.gather(*(client() for _ in range(concurrency)))
        return Load([request for request in requests if request is not None], sender.now())


async def whole_batch(url: str, wire: WireFormat, texts: Sequence[BenchText]) -> Load:
    """Send all texts in one request."""
    body = wire.body(texts)
    async with _session() as session:
        sender = _Sender(session, url, wire)
        request = await sender.send(texts, body)
        return Load([request], sender.now())


def arrivals(seed: str, rate: float, seconds: float) -> list[float]:
    """Due times of a Poisson process with `rate` arrivals per second, in [0, seconds)."""
    draw = random.Random(seed)
    times = []
    now = draw.expovariate(rate)
    while now < seconds:
        times.append(now)
        now += draw.expovariate(rate)
    return times


async def open_loop(
    url: str, wire: WireFormat, texts: Sequence[BenchText], due: Sequence[float]
) -> Load:
    """Send one text at each due time, whether or not earlier requests have been answered."""
    bodies = [wire.body([text]) for text in texts]
    async with _session() as session:
        sender = _Sender(session, url, wire)
        tasks = []
        for text, body, at in zip(texts, bodies, due, strict=True):
            if (wait := at - sender.now()) > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(sender.send([text], body, at)))
        requests = await asyncio.gather(*tasks)
        return Load(list(requests), sender.now())


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed; NaN for no values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


def latency(load: Load, seconds: float) -> dict[str, float]:
    """Percentiles of an open loop's waits, in seconds from due to done (good answers only), and
    figures that show whether the percentiles can be trusted.

    Args:
        seconds: length of the interval in which requests were due.
    """
    good = [request for request in load.requests if not request.error]
    waits = [request.done - request.due for request in good]
    delays = [request.sent - request.due for request in load.requests]
    ends = sorted([0.0, *(request.done for request in good)])
    return {
        "offered_per_s": len(load.requests) / seconds,
        "achieved_per_s": len(good) / max(load.seconds, seconds),
        "p50_s": percentile(waits, 0.50),
        "p95_s": percentile(waits, 0.95),
        "p99_s": percentile(waits, 0.99),
        "max_s": max(waits, default=float("nan")),
        "num_errors": len(load.requests) - len(good),
        "num_late": sum(delay > LATE_S for delay in delays),
        "dispatch_p99_s": percentile(delays, 0.99),
        "longest_silence_s": max((b - a for a, b in pairwise(ends)), default=0.0),
    }
