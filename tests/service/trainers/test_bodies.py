"""Every trainer's body, version by version, against a live server. The client gets the rewards that
`/v1/rewards` gives for the same conversations, or it recognises a failure."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import httpx2
import pytest

from candor.http.trainer_routes import ROUTES
from candor.item import Item
from candor.jobs.check.recorded import Recorded, recorded
from candor.trainers.options import TrainerRoutes
from tests.service.serving import load_tiny, running, tiny_app
from tests.service.trainers.clients import CLIENTS
from tests.service.trainers.golden import native

GOLDEN = recorded()
READ_BY_CLIENTS = {"rewards", "scores", "reward", "data", "results", "embedding", "score"}
each = pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
answerable = pytest.mark.parametrize(
    "golden", [one for one in GOLDEN if one.items], ids=lambda golden: golden.name
)


@pytest.fixture(scope="module")
def without_logs() -> Iterator[str]:
    with running(tiny_app(trainers=TrainerRoutes(openrlhf_extra_logs=False))) as url:
        yield url


@pytest.fixture(scope="module")
def failing() -> Iterator[str]:
    """A server whose model, once ready, raises at every forward."""
    broken = threading.Event()

    def before(_: Sequence[Item]) -> None:
        if broken.is_set():
            raise RuntimeError("a kernel that fails")

    with running(tiny_app(lambda metrics: load_tiny(metrics, before=before))) as url:
        broken.set()
        yield url


@each
@pytest.mark.parametrize("slash", ["", "/"])
def test_the_client_gets_what_rewards_gives(
    url: str, without_logs: str, golden: Recorded, slash: str
) -> None:
    server = without_logs if golden.client == "openrlhf_without_logs" else url
    client = CLIENTS[golden.client]
    expected = [one["reward"] for one in native(server, golden.items)]
    if golden.client == "openrlhf_unreadable":
        with pytest.raises(TypeError, match="Tensor"):
            client(server + golden.path, golden.body, 0)
        client = CLIENTS["openrlhf_asserting"]
    got = client(server + golden.path + slash, golden.body, 0)
    assert got == pytest.approx(expected, abs=1e-5)
    assert len(got) == len(expected)


def test_extra_logs_fail_the_client_they_are_switched_off_for(url: str) -> None:
    golden = next(one for one in GOLDEN if one.client == "openrlhf_without_logs")
    with pytest.raises(TypeError):
        CLIENTS[golden.client](url + golden.path, golden.body, 0)


@answerable
def test_a_failure_is_one_for_the_client_and_never_a_number(failing: str, golden: Recorded) -> None:
    response = httpx2.post(failing + golden.path, json=golden.body, timeout=60)
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/json"
    assert response.json().keys() == {"error"}
    assert READ_BY_CLIENTS.isdisjoint(response.json()["error"])
    assert response.json()["error"]["type"] == "engine_failed"
    with pytest.raises(Exception, match=r"."):
        CLIENTS[golden.client](failing + golden.path, golden.body, 0)


def with_empty_response(golden: Recorded) -> Any:
    """The body with an empty first response."""
    body = dict(golden.body)
    text = golden.items[0]["responses"][0]

    def emptied(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(text, "")
        if isinstance(value, list):
            return [emptied(part) for part in value]
        if isinstance(value, dict):
            return {key: emptied(part) for key, part in value.items()}
        return value

    return emptied(body)


@answerable
def test_a_text_without_a_response_ends_no_run_unless_the_server_is_told_so(
    url: str, strict: str, golden: Recorded
) -> None:
    if "input_ids" in golden.body:
        body = {"input_ids": [[10_000]]}
        expected = (400, "invalid_request")
    else:
        body = with_empty_response(golden)
        expected = (422, "empty_response")
        scored = httpx2.post(url + golden.path, json=body)
        assert scored.status_code == 200
        assert "empty_response" in scored.headers["x-candor-warnings"]
    response = httpx2.post(strict + golden.path, json=body)
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == expected
    assert (error["item"], error["retryable"]) == (0, False)
    assert response.json().keys() == {"error"}


@pytest.mark.parametrize(
    "name", ["openrlhf-0.4.0", "openrlhf-0.9.1", "slime-0.3.1", "verl-0.9.0-vllm"]
)
def test_a_client_that_tries_again_gets_its_rewards_when_the_model_is_there(name: str) -> None:
    golden = next(one for one in GOLDEN if one.name == name)
    loading = threading.Event()

    def load(metrics: Any) -> Any:
        loading.wait(20)
        return load_tiny(metrics)

    with running(tiny_app(load), ready=False) as url:
        refused = httpx2.post(url + golden.path, json=golden.body)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "not_ready"
        threading.Timer(0.1, loading.set).start()
        got = CLIENTS[golden.client](url + golden.path, golden.body, 0.5)
        expected = [one["reward"] for one in native(url, golden.items)]
    assert got == pytest.approx(expected, abs=1e-5)


def test_every_route_has_a_golden_body_and_every_golden_body_a_source() -> None:
    aliases = {"/v1/score", "/v2/rerank", "/invocations"}
    assert {one.path for one in GOLDEN} == set(ROUTES) - aliases
    assert all(one.source and one.versions and one.trainer for one in GOLDEN)
    assert {one.client for one in GOLDEN} == set(CLIENTS)
