"""Failures behind the API, over a real port: each has an error type, and nothing leaks."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import httpx2
import pytest
import structlog

from candor.errors import CandorError
from candor.item import Item
from candor.scoring.rewarder import Rewarder
from candor.watch.metrics import Metrics
from tests.service.serving import (
    error_of,
    load_tiny,
    metric,
    one,
    running,
    score,
    subclasses,
    tiny_app,
    wait_for,
)


@pytest.mark.parametrize("kind", list(subclasses(CandorError)), ids=lambda kind: kind.__name__)
def test_every_named_failure_is_answered_with_its_status_and_type(
    kind: type[CandorError], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> bytes:
        raise kind("a reason", item=1, response=2)

    monkeypatch.setattr(Rewarder, "score", fail)
    with running(tiny_app()) as url:
        response = score(url)
        assert response.status_code == kind.status
        error = error_of(response)
        assert (error.type, error.message, error.item, error.response) == (
            kind.type,
            "a reason",
            1,
            2,
        )
        assert error.retryable == kind.retryable
        assert error.request_id == response.headers["x-request-id"]
        assert ("retry-after" in response.headers) == (kind.status == 503)
        assert metric(url, f'candor_errors_total{{type="{kind.type}"}}') == 1


def test_a_bug_is_a_500_with_the_request_id_and_no_word_of_what_happened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object) -> bytes:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Rewarder, "score", fail)
    with running(tiny_app()) as url:
        response = score(url, headers={"x-request-id": "abc-1"})
        assert response.status_code == 500
        assert "secret" not in response.text
        assert error_of(response).type == "internal_error"
        assert error_of(response).request_id == "abc-1"
        monkeypatch.undo()
        assert score(url).status_code == 200


def test_an_item_that_the_engine_cannot_score_fails_alone() -> None:
    def before(items: Sequence[Item]) -> None:
        # Only the "poison" response below has 33 tokens; the sentinel's responses have fewer.
        if any(item.response_end - item.response_start == 33 for item in items):
            raise MemoryError("no more")

    app = tiny_app(lambda metrics: load_tiny(metrics, before=before))
    with structlog.testing.capture_logs() as log, running(app) as url:
        results: dict[str, httpx2.Response] = {}

        def post(name: str, response: str) -> None:
            results[name] = score(url, one(response), timeout=30)

        threads = [
            threading.Thread(target=post, args=(name, text))
            for name, text in [("good", "zz"), ("poison", "z" * 33), ("other", "zzzz")]
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results["good"].status_code == results["other"].status_code == 200
        assert results["poison"].status_code == 500
        error = error_of(results["poison"])
        assert (error.type, error.item, error.response) == ("engine_failed", 0, 0)
        assert "no more" not in results["poison"].text
        # The reason is in the log, under the id that the caller was given.
        (line,) = [entry for entry in log if entry["event"] == "engine_failed"]
        assert line["reason"] == "MemoryError: no more"
        assert line["request_id"] == error.request_id


def test_a_full_queue_is_503_with_whole_seconds_to_wait() -> None:
    held = threading.Event()
    started = threading.Event()

    def before(items: Sequence[Item]) -> None:
        if any(item.response_end - item.response_start == 33 for item in items):
            started.set()
            held.wait(30)

    def load(metrics: Metrics) -> Rewarder:
        return load_tiny(metrics, before=before, max_queue_tokens=60)

    with running(tiny_app(load)) as url:
        waiting = [
            threading.Thread(target=lambda: score(url, one("z" * 33), timeout=60)),
            threading.Thread(target=lambda: score(url, one("z" * 40), timeout=60)),
        ]
        waiting[0].start()
        assert started.wait(20)
        waiting[1].start()
        try:
            wait_for(lambda: metric(url, "candor_queue_items") == 1)
            response = score(url, one("z" * 40))
            assert response.status_code == 503
            assert error_of(response).type == "overloaded"
            assert int(response.headers["retry-after"]) >= 1
            assert httpx2.get(f"{url}/livez").status_code == 200
            # The queue has room for this request, but the model is busy until after the deadline.
            late = score(url, one("zz"), headers={"x-request-timeout": "0.2"}, timeout=10)
            assert late.status_code == 503
            assert error_of(late).type == "deadline_exceeded"
        finally:
            held.set()
            for thread in waiting:
                thread.join()
        assert metric(url, 'candor_refused_total{type="overloaded"}') >= 1


def test_a_caller_who_hangs_up_is_not_scored() -> None:
    held, started = threading.Event(), threading.Event()
    seen: list[int] = []

    def before(items: Sequence[Item]) -> None:
        lengths = [item.response_end - item.response_start for item in items]
        seen.extend(lengths)
        if 33 in lengths:
            started.set()
            held.wait(30)

    with running(tiny_app(lambda metrics: load_tiny(metrics, before=before))) as url:
        first = threading.Thread(target=lambda: score(url, one("z" * 33), timeout=60))
        first.start()
        assert started.wait(20)
        with pytest.raises(httpx2.ReadTimeout):
            score(url, one("z" * 37), timeout=0.5)
        try:
            wait_for(lambda: metric(url, "candor_gone_items_total") == 1)
        finally:
            held.set()
            first.join()
        assert score(url, one("z" * 39)).status_code == 200
        assert {33, 39} <= set(seen)
        assert 37 not in seen
        assert metric(url, 'candor_requests_total{route="/v1/rewards",status="499"}') == 1
