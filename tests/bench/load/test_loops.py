"""The load generator against a small server whose delays are known."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from aiohttp import web

from bench.load.loops import (
    arrivals,
    closed_loop,
    latency,
    open_loop,
    percentile,
    whole_batch,
)
from bench.load.wire import PADDED
from bench.load.workloads import BenchText

SERVICE_S = 0.05


def texts(count: int) -> list[BenchText]:
    return [BenchText(n, f"context {n} ", "response" * n) for n in range(count)]


@asynccontextmanager
async def one_at_a_time(fail: str = "") -> AsyncIterator[tuple[str, list[int]]]:
    """A server in the padded loop's form that works `SERVICE_S` on each request, one at a time.
    Yields its URL and, growing, how many requests waited at each arrival."""
    lock = asyncio.Lock()
    waiting = 0
    seen: list[int] = []

    async def handle(request: web.Request) -> web.Response:
        nonlocal waiting
        queries = (await request.json())["query"]
        waiting += 1
        seen.append(waiting)
        async with lock:
            await asyncio.sleep(SERVICE_S)
        waiting -= 1
        if fail and fail in queries[0]:
            return web.Response(status=503)
        rewards = [float(len(query)) for query in queries]
        return web.json_response({"rewards": rewards, "extra_logs": {"num_tokens": rewards}})

    app = web.Application()
    app.router.add_post("/get_reward", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}", seen
    finally:
        await runner.cleanup()


def test_a_closed_loop_keeps_its_concurrency_and_the_order_of_the_texts() -> None:
    async def go() -> None:
        async with one_at_a_time() as (url, seen):
            some = texts(12)
            load = await closed_loop(url, PADDED, some, 4)
            assert load.rewards == [float(len(text.context + text.response)) for text in some]
            assert load.num_tokens == sum(load.rewards)
            assert max(seen) == 4
            assert load.errors == {}
            assert load.seconds >= 12 * SERVICE_S

    asyncio.run(go())


def test_a_whole_batch_is_one_request() -> None:
    async def go() -> None:
        async with one_at_a_time() as (url, seen):
            load = await whole_batch(url, PADDED, texts(12))
            assert (len(load.rewards), seen) == (12, [1])

    asyncio.run(go())


def test_a_failed_request_is_counted_and_has_no_reward() -> None:
    async def go() -> None:
        async with one_at_a_time(fail="context 3 ") as (url, _):
            load = await closed_loop(url, PADDED, texts(6), 2)
            assert load.errors == {"HTTP 503": 1}
            assert len(load.rewards) == 5
        dead = await closed_loop(url, PADDED, texts(2), 2)  # nobody listens any more
        assert sum(dead.errors.values()) == 2

    asyncio.run(go())


def test_an_open_loop_counts_the_wait_that_a_closed_loop_hides() -> None:
    """Ten requests due at once at a server that takes them one at a time: the last waits ten
    service times. A closed loop of one client sees one service time each: the control."""

    async def go() -> None:
        async with one_at_a_time() as (url, _):
            together = await open_loop(url, PADDED, texts(10), [0.0] * 10)
            alone = await closed_loop(url, PADDED, texts(10), 1)
        found = latency(together, 1.0)
        assert found["p99_s"] >= 10 * SERVICE_S
        assert found["p50_s"] >= 5 * SERVICE_S
        assert found["offered_per_s"] == 10
        waits = [request.done - request.sent for request in alone.requests]
        assert percentile(waits, 0.5) < found["p99_s"] / 2

    asyncio.run(go())


def test_a_request_that_the_client_sends_late_is_late_and_its_wait_counts() -> None:
    async def go() -> None:
        async with one_at_a_time() as (url, _):
            # Due before the load began: the client cannot have been in time.
            load = await open_loop(url, PADDED, texts(3), [-1.0, -0.5, 0.2])
        found = latency(load, 1.0)
        assert found["num_late"] >= 2
        assert found["max_s"] >= 1.0
        assert found["dispatch_p99_s"] >= 1.0

    asyncio.run(go())


def test_arrivals_are_a_poisson_process_and_the_same_for_both_arms() -> None:
    times = arrivals("seed", 20.0, 100.0)
    assert times == arrivals("seed", 20.0, 100.0) == sorted(times)
    assert times != arrivals("other", 20.0, 100.0)
    assert abs(len(times) - 2000) < 5 * math.sqrt(2000)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    # Of exponential gaps the deviation is the mean; evenly spaced ones have none.
    assert math.sqrt(variance) == pytest.approx(mean, rel=0.15)


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert percentile([3.0], 0.99) == 3.0
    assert math.isnan(percentile([], 0.5))
