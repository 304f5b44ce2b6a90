"""The clients behind the rows: the first call asks once who the server is, and says so."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from candor.client.errors import PermanentError, Unreachable
from candor.client.rows import RewardServer, connections
from candor.jobs.running.processes import free_port
from tests.client.asking import GOOD, QUESTION, ask, native, run, said
from tests.paths import ROOT
from tests.service.serving import running, tiny_app


def test_calls_at_the_same_time_wait_once_for_a_server_that_stays_away() -> None:
    async def many(server: RewardServer) -> list[Any]:
        calls = (server.rewards([GOOD]) for _ in range(8))
        return await asyncio.gather(*calls, return_exceptions=True)

    began = time.monotonic()
    url = f"http://127.0.0.1:{free_port()}"
    found = run(lambda: many(RewardServer(url, patience_s=0.5)))
    assert [type(one) for one in found] == [Unreachable] * 8
    assert time.monotonic() - began < 3  # one after the other would be 4 s


def test_the_first_call_logs_address_model_and_formula_in_one_line(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def twice() -> None:
        server = RewardServer(url, penalties={"sycophancy": {"lambda": 2.0}})
        await server.rewards([GOOD])
        await server.rewards([GOOD])

    with caplog.at_level(logging.INFO, logger="candor.client"):
        run(twice)
    lines = [r.getMessage() for r in caplog.records if "rewards come from" in r.getMessage()]
    assert lines == [
        f"rewards come from {url}: model tiny (000000000000), reward = R - lambda*clip(S), "
        'with penalties {"sycophancy": {"lambda": 2.0}}'
    ]


def test_the_first_calls_line_is_seen_where_logging_is_not_set_up(url: str) -> None:
    code = (
        "from candor.client.trl import reward\n"
        f"print(reward(prompts=[{QUESTION!r}], completions=[[{said('good')!r}]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"CANDOR_REWARD_URL": url, "PYTHONPATH": "client"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert f"candor: rewards come from {url}: model tiny" in done.stderr
    assert json.loads(done.stdout) == pytest.approx(
        [native(url, ["good"], messages=QUESTION)[0].reward], abs=1e-5
    )


def test_a_loop_that_has_ended_keeps_no_client(url: str) -> None:
    """A program that calls `asyncio.run` per step."""

    async def once() -> None:
        await RewardServer(url).rewards([GOOD])
        for known in connections._clients[asyncio.get_running_loop()].values():
            await known.client.close()

    for _ in range(3):
        asyncio.run(once())
    assert len([loop for loop in connections._clients if loop.is_closed()]) == 1


def test_a_wrong_key_ends_the_first_call() -> None:
    with (
        running(tiny_app(api_key="right" * 8)) as locked,
        pytest.raises(PermanentError, match="unauthorized"),
    ):
        ask(locked, [GOOD], api_key="wrong" * 8)
