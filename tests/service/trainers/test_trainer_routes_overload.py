"""A full queue: every route answers 503 and `Retry-After`, and a trainer that retries gets its
reward."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import httpx2
import pytest

from candor.http.trainer_routes import ROUTES
from candor.item import Item
from candor.jobs.check.recorded import recorded
from tests.service.serving import load_tiny, metric, running, score, tiny_app, wait_for
from tests.service.trainers.clients import openrlhf_agent
from tests.service.trainers.golden import native


def test_a_full_queue_refuses_on_every_route_and_lets_the_trainer_back_in_later() -> None:
    held, started, free = threading.Event(), threading.Event(), threading.Event()
    golden = next(one for one in recorded() if one.name == "openrlhf-0.9.1")

    def before(_: Sequence[Item]) -> None:
        if held.is_set():
            started.set()
            free.wait(30)

    def fill() -> None:
        score(
            url,
            {"items": [{"prompt": "p", "templated": True, "responses": ["z" * 40]}]},
            timeout=60,
        )

    app = tiny_app(lambda metrics: load_tiny(metrics, before=before, max_queue_tokens=40))
    with running(app) as url:
        held.set()
        waiting = [threading.Thread(target=fill) for _ in range(2)]
        waiting[0].start()
        assert started.wait(20)
        waiting[1].start()
        try:
            wait_for(lambda: metric(url, "candor_queue_items") == 1)
            for path, contracts in ROUTES.items():
                for contract in contracts:
                    response = httpx2.post(url + path, json=contract.example)
                    assert response.status_code == 503, path
                    assert int(response.headers["retry-after"]) >= 1
                    assert response.json().keys() == {"error"}
                    assert response.json()["error"]["type"] == "overloaded"
            threading.Timer(0.3, free.set).start()
            got = openrlhf_agent(f"{url}/get_reward", golden.body, 0.5)
        finally:
            free.set()
            for thread in waiting:
                thread.join()
        assert got == pytest.approx([native(url, golden.items)[0]["reward"]], abs=1e-5)
