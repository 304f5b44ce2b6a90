"""A whole rollout at once, one connection per sample, against `candor serve` as it is started."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.serve_process import ServeProcess, save_served

CALLERS = 4096
SOFT_LIMIT = 256
"""Open files that the server may have when it is started; most systems say 1,024."""


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[ServeProcess]:
    """A server that starts with a small limit on its open files."""
    process = ServeProcess(save_served(tmp_path), start=False)
    process.command = [
        *(sys.executable, "-c"),
        f"import os, resource, sys; _, hard = resource.getrlimit(resource.RLIMIT_NOFILE); "
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({SOFT_LIMIT}, hard)); "
        "os.execvp(sys.argv[1], sys.argv[1:])",
        *process.command,
    ]
    process.start()
    try:
        process.wait_ready()
        yield process
    finally:
        process.stop()


def body(number: int) -> bytes:
    return json.dumps({"query": [f"The poem is {number}"], "prompts": ["The poem is"]}).encode()


async def ask(port: int, number: int, all_connected: asyncio.Barrier) -> tuple[int, float]:
    """Status and reward of one sample, sent once every caller has its connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    content = body(number)
    head = (
        "POST /get_reward HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    await all_connected.wait()
    writer.write(head.encode() + content)
    answer = await reader.read()
    writer.close()
    first, _, text = answer.partition(b"\r\n\r\n")
    status = int(first.split(b" ", 2)[1]) if first else 0
    return status, json.loads(text)["rewards"][0] if status == 200 else 0.0


@pytest.mark.slow
def test_a_rollout_of_single_samples_is_answered_whole_and_the_server_stays_healthy(
    serving: ServeProcess,
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < CALLERS + 500:
        pytest.skip(f"this machine allows {hard} open files")
    healthy: list[int] = []

    async def check_health(client: httpx2.AsyncClient) -> None:
        while True:
            healthy.append((await client.get(f"{serving.url}/livez")).status_code)
            await asyncio.sleep(0.25)

    async def rollout() -> list[tuple[int, float]]:
        barrier = asyncio.Barrier(CALLERS)
        async with httpx2.AsyncClient(timeout=120) as client:
            checking = asyncio.create_task(check_health(client))
            answers = await asyncio.gather(
                *(ask(serving.port, number, barrier) for number in range(CALLERS))
            )
            checking.cancel()
            return answers

    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CALLERS + 500), hard))
    try:
        began = time.monotonic()
        answers = asyncio.run(rollout())
        took_s = time.monotonic() - began
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert Counter(status for status, _ in answers) == {200: CALLERS}, took_s
    assert healthy
    assert set(healthy) == {200}
    # Each caller got the reward of its own text.
    for number in (0, 1, CALLERS // 2, CALLERS - 1):
        alone = httpx2.post(
            f"{serving.url}/get_reward",
            content=body(number),
            headers={"Content-Type": "application/json"},
        )
        assert alone.json()["rewards"][0] == pytest.approx(answers[number][1], abs=1e-4)
