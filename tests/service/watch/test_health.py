"""Health tells the truth: the sentinel, the watchdog, a load that fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2
import pytest
import torch

from candor.errors import EngineFailed, Overloaded
from candor.item import Item
from candor.scoring.rewarder import Rewarder
from candor.text.request import Group
from candor.watch.health import SENTINEL, Health
from candor.watch.metrics import Metrics
from tests.service.serving import load_tiny, metric, running, score, tiny_app, wait_for


class Scores:
    """A scorer whose next answer can be set."""

    dtype = "float32"
    alive = True
    forgot = 0
    names = ("R 0", "S 0", "R 1")

    def __init__(self) -> None:
        self.next: tuple[float, ...] | Exception = (1.0, -2.0, 3.0)

    def forget(self) -> None:
        self.forgot += 1

    async def raw_scores(self, groups: Sequence[Group], timeout_s: float) -> Mapping[str, float]:
        assert groups == SENTINEL
        if isinstance(self.next, Exception):
            raise self.next
        return dict(zip(self.names, self.next, strict=True))


def started(scores: Scores) -> Health:
    health = Health()
    assert health.status == "loading"
    asyncio.run(health.start(scores))
    assert health.ready
    return health


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ((1.0, -2.0, 3.0), "ready"),
        ((1.0001, -2.0, 3.0), "ready"),
        ((1.1, -2.0, 3.0), "wrong_scores"),
        ((1.0, -2.0, 3.1), "wrong_scores"),
        ((0.0, 0.0, 0.0), "wrong_scores"),
        ((1.0, float("nan"), 3.0), "wrong_scores"),
        (EngineFailed("raised"), "wrong_scores"),
        (Overloaded("full"), "ready"),
    ],
)
def test_the_sentinel_compares_scores_and_being_busy_is_no_verdict(
    answer: tuple[float, ...] | Exception, status: str
) -> None:
    scores = Scores()
    health = started(scores)
    scores.next = answer
    asyncio.run(health.check())
    assert health.status == status
    assert (health.reason is None) == (status == "ready")
    # And it recovers when the scores do.
    scores.next = (1.0, -2.0, 3.0)
    asyncio.run(health.check())
    assert health.ready


def test_a_name_that_is_new_is_kept_and_compared_from_then_on() -> None:
    """A probe that replaces another has a name of its own among the sentinel's scores."""
    scores = Scores()
    health = started(scores)
    scores.names = ("R 0", "S@2 0", "R 1")
    for answer, status in (
        ((1.0, 9.0, 3.0), "ready"),  # S@2 is new, R is as it was
        ((1.0, 9.1, 3.0), "wrong_scores"),
        ((1.0, 9.0, 3.0), "ready"),
        ((1.1, 9.0, 3.0), "wrong_scores"),
    ):
        scores.next = answer
        asyncio.run(health.check())
        assert health.status == status
    # A new name does not hide a fault: nothing is kept of a check that failed.
    scores.names = ("R 0", "S@3 0", "R 1")
    scores.next = (1.1, 5.0, 3.0)
    asyncio.run(health.check())
    scores.next = (1.0, 7.0, 3.0)
    asyncio.run(health.check())
    assert health.ready


def test_a_sentinel_that_cannot_be_scored_at_start_up_never_becomes_ready() -> None:
    scores, health = Scores(), Health()
    scores.next = EngineFailed("raised")
    with pytest.raises(EngineFailed):
        asyncio.run(health.start(scores))
    assert health.status == "loading"


def test_a_stuck_worker_is_not_ready_and_a_failure_or_a_drain_goes_first() -> None:
    scores = Scores()
    health = started(scores)
    seen = []
    scores.alive = False
    seen.append(health.status)
    health.draining = True
    seen.append(health.status)
    health.failed = "no"
    seen.append(health.status)
    assert seen == ["stuck", "draining", "failed"]


def test_a_drain_shortens_the_wait_for_bodies_and_never_lengthens_it() -> None:
    async def check() -> tuple[float, float]:
        health, now = Health(), asyncio.get_running_loop().time()
        async with asyncio.timeout(100) as long, asyncio.timeout(0.5) as short:
            health.body_timers |= {long, short}
            health.drain(2.0)
            assert health.draining
            long_when, short_when = long.when(), short.when()
        assert long_when is not None
        assert short_when is not None
        return long_when - now, short_when - now

    long_s, short_s = asyncio.run(check())
    assert long_s == pytest.approx(2.0, abs=0.4)
    assert short_s == pytest.approx(0.5, abs=0.4)


def test_a_head_that_has_changed_turns_the_server_not_ready_and_refuses_work() -> None:
    app = tiny_app()
    with running(app) as url:
        assert score(url).status_code == 200
        head = app.state.server.rewarder.model.model.score.weight
        check = app.state.server.health.check

        def recheck() -> None:
            # The server's own check runs every 30 s; here it is asked to, in the server's loop.
            asyncio.run_coroutine_threadsafe(
                check(), app.state.server.rewarder.batcher._runner.get_loop()
            ).result(20)

        recheck()
        assert app.state.server.health.ready
        with torch.no_grad():
            head.mul_(2)
        recheck()
        ready = httpx2.get(f"{url}/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "wrong_scores")
        refused = score(url)
        assert refused.status_code == 503
        assert refused.json()["error"]["type"] == "not_ready"
        assert httpx2.get(f"{url}/livez").status_code == 200
        assert metric(url, "candor_ready") == 0
        with torch.no_grad():
            head.div_(2)
        recheck()
        assert score(url).status_code == 200


def test_a_forward_that_hangs_turns_the_server_not_ready_until_it_ends() -> None:
    held, started = threading.Event(), threading.Event()

    def before(items: Sequence[Item]) -> None:
        if any(item.response_end - item.response_start == 33 for item in items):
            started.set()
            held.wait(30)

    def load(metrics: Metrics) -> Rewarder:
        return load_tiny(metrics, before=before, watchdog_s=0.3)

    with running(tiny_app(load)) as url:
        body = {"items": [{"prompt": "p", "templated": True, "responses": ["z" * 33]}]}
        stuck = threading.Thread(target=lambda: score(url, body, timeout=60))
        stuck.start()
        try:
            assert started.wait(20)
            wait_for(lambda: httpx2.get(f"{url}/readyz").json()["status"] == "stuck")
            assert httpx2.get(f"{url}/livez").status_code == 200
        finally:
            held.set()
            stuck.join()
        wait_for(lambda: httpx2.get(f"{url}/readyz").status_code == 200)
        assert score(url).status_code == 200


def test_a_model_with_nan_in_it_never_becomes_ready() -> None:
    def load(metrics: Metrics) -> Rewarder:
        rewarder = load_tiny(metrics)
        model: Any = rewarder.model.model
        with torch.no_grad():
            model.score.weight.fill_(float("nan"))
        return rewarder

    app = tiny_app(load)
    with running(app, ready=False) as url:
        wait_for(lambda: app.state.server.health.failed is not None)
        assert httpx2.get(f"{url}/readyz").status_code == 503
        assert score(url).status_code == 503


def test_a_load_that_raises_leaves_one_line_and_no_details_over_http() -> None:
    def load(metrics: Metrics) -> Rewarder:
        raise ValueError("weights are at /secret/place\nand more")

    app = tiny_app(load)
    with running(app, ready=False) as url:
        wait_for(lambda: app.state.server.health.failed is not None)
        assert app.state.server.health.failed == "ValueError: weights are at /secret/place"
        answer = httpx2.get(f"{url}/readyz")
        assert answer.json()["status"] == "failed"
        assert "secret" not in answer.text
        assert "secret" not in score(url).text
