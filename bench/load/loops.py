"""Texts to a server, and when the answers came: closed loop, one whole batch, open loop.

A closed loop says what a server can do at a concurrency and nothing about waiting: its clients wait
with it. Latency is measured in an open loop, from the moment a request was due, so that a client
that falls behind cannot hide it. One process, apart from the servers; nothing is pinned.
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

from bench.load.wire import Wire
from bench.load.workloads import Text

TIMEOUT = aiohttp.ClientTimeout(total=1800)
"""Longer than anything here: a slow answer is measured, not given up on."""

LATE_S = 0.01
"""A request sent this much after it was due is counted as late: the client's fault."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One request. Times in seconds since the load began; `error` is empty for a good answer."""

    due: float
    sent: float
    done: float
    rewards: tuple[float, ...]
    num_tokens: int
    num_computed_tokens: int | None
    """None where the server does not tell."""
    error: str


@dataclass(frozen=True, slots=True)
class Load:
    """What came of one load: the requests in the order of the texts."""

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
        """None where a request does not tell."""
        told = [request.num_computed_tokens for request in self.requests]
        known = [one for one in told if one is not None]
        return sum(known) if len(known) == len(told) else None

    @property
    def errors(self) -> dict[str, int]:
        return dict(Counter(request.error for request in self.requests if request.error))


class _Sender:
    """One session to one server, and the clock of one load."""

    def __init__(self, session: aiohttp.ClientSession, url: str, wire: Wire) -> None:
        self._session = session
        self._url = url + wire.path
        self._wire = wire
        self.began = time.perf_counter()

    def now(self) -> float:
        return time.perf_counter() - self.began

    async def send(self, texts: Sequence[Text], body: bytes, due: float | None = None) -> Sent:
        """Sends one request; every failure is a `Sent` with an error."""
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


async def closed_loop(url: str, wire: Wire, texts: Sequence[Text], concurrency: int) -> Load:
    """Single-item requests, `concurrency` at a time, in the order of the texts."""
    bodies = [wire.body([text]) for text in texts]
    requests: list[Sent | None] = [None] * len(texts)
    waiting = iter(range(len(texts)))
    async with _session() as session:
        sender = _Sender(session, url, wire)

        async def client() -> None:
            for number in waiting:
                requests[number] = await sender.send([texts[number]], bodies[number])

        await asyncio.gather(*(client() for _ in range(concurrency)))
        return Load([one for one in requests if one is not None], sender.now())


async def whole_batch(url: str, wire: Wire, texts: Sequence[Text]) -> Load:
    """All texts in one request."""
    body = wire.body(texts)
    async with _session() as session:
        sender = _Sender(session, url, wire)
        request = await sender.send(texts, body)
        return Load([request], sender.now())


def arrivals(seed: str, rate: float, seconds: float) -> list[float]:
    """Due times of a Poisson process of `rate` a second, in [0, seconds)."""
    draw = random.Random(seed)
    times = []
    now = draw.expovariate(rate)
    while now < seconds:
        times.append(now)
        now += draw.expovariate(rate)
    return times


async def open_loop(url: str, wire: Wire, texts: Sequence[Text], due: Sequence[float]) -> Load:
    """One text at each due time, whatever became of those before it."""
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
    """The smallest value that at least `share` of all are not above; NaN of none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


def latency(load: Load, seconds: float) -> dict[str, float]:
    """Of an open loop: percentiles from due to done in seconds (good answers only), and whether
    the figures can be believed.

    Args:
        seconds: over which requests were due; what they offered is their number over it.
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
