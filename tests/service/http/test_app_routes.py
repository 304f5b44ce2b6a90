"""The routes other than scoring, over a real port, and the OpenAPI document of all routes."""

from __future__ import annotations

import json
import threading
import tomllib
from dataclasses import replace

import httpx2
import pytest

from candor.client.schema import ErrorEnvelope, RewardResponse
from candor.http import openapi
from candor.http.document import document
from candor.http.routes import route_table
from candor.probes.card import BoundSpec
from candor.scoring.rewarder import Rewarder
from candor.scoring.served import ServedProbe
from candor.version import VERSION
from candor.watch.metrics import Metrics
from tests.paths import ROOT
from tests.service.serving import (
    BODY,
    LAMBDA,
    error_of,
    load_tiny,
    metric,
    running,
    score,
    tiny_app,
    tiny_probes,
    wait_for,
)


def test_while_the_model_loads_the_server_lives_and_is_not_ready() -> None:
    held = threading.Event()

    def load(metrics: Metrics) -> Rewarder:
        held.wait(30)
        return load_tiny(metrics)

    app = tiny_app(load)
    with running(app, ready=False) as url:
        try:
            assert httpx2.get(f"{url}/livez").status_code == 200
            ready = httpx2.get(f"{url}/readyz")
            assert (ready.status_code, ready.json()["status"]) == (503, "loading")
            start = httpx2.get(f"{url}/startupz")
            assert (start.status_code, start.json()["status"]) == (503, "starting")
            later = httpx2.get(f"{url}/startupz").json()
            assert later["seconds"] >= start.json()["seconds"]
            for response in (score(url), httpx2.get(f"{url}/v1/models")):
                assert response.status_code == 503
                assert error_of(response).type == "not_ready"
                assert int(response.headers["retry-after"]) >= 1
            assert metric(url, "candor_ready") == 0
        finally:
            held.set()
        wait_for(lambda: httpx2.get(f"{url}/readyz").status_code == 200)
        started = httpx2.get(f"{url}/startupz")
        assert (started.status_code, started.json()["status"]) == (200, "started")
        assert (started.json()["step"], started.json()["steps"]) == (5, 5)
        assert score(url).status_code == 200
        assert metric(url, "candor_ready") == 1


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/ready", "/health", "/startupz", "/v1/models"]
)
def test_a_trailing_slash_is_answered_without_a_redirect(url: str, path: str) -> None:
    assert httpx2.get(f"{url}{path}/").status_code == 200
    assert httpx2.get(f"{url}{path}").status_code == 200


def test_a_post_with_a_trailing_slash_is_scored(url: str) -> None:
    assert httpx2.post(f"{url}/v1/rewards/", json=BODY).status_code == 200


def test_an_unknown_route_is_404_and_lists_the_routes(url: str) -> None:
    response = httpx2.get(f"{url}/get_rewards")
    assert response.status_code == 404
    assert error_of(response).type == "not_found"
    assert "POST /v1/rewards" in error_of(response).message


def test_the_wrong_method_is_405_and_says_the_right_one(url: str) -> None:
    response = httpx2.get(f"{url}/v1/rewards")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST, OPTIONS"
    assert error_of(response).type == "method_not_allowed"
    assert error_of(response).message == "this route answers POST"


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/ready", "/health", "/startupz", "/metrics"]
)
def test_head_is_get_without_the_body(url: str, path: str) -> None:
    get, head = httpx2.get(url + path), httpx2.head(url + path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    assert int(head.headers["content-length"]) > 0


def test_head_of_a_route_that_is_posted_to_is_405(url: str) -> None:
    head = httpx2.head(f"{url}/v1/rewards")
    assert (head.status_code, head.content) == (405, b"")
    assert httpx2.head(f"{url}/nothing").status_code == 404


def test_options_say_which_methods_a_route_answers_and_let_no_web_page_in(url: str) -> None:
    for path, methods in (("/v1/rewards", "POST, OPTIONS"), ("/v1/models", "GET, HEAD, OPTIONS")):
        asked = {"origin": "http://evil.example", "access-control-request-method": "POST"}
        response = httpx2.options(url + path, headers=asked)
        assert (response.status_code, response.content) == (204, b"")
        assert response.headers["allow"] == methods
        assert not [name for name in response.headers if name.startswith("access-control")]
    assert httpx2.options(f"{url}/nothing").status_code == 404


def test_models_and_probes_say_what_decides_the_scores(url: str) -> None:
    (model,) = httpx2.get(f"{url}/v1/models").json()["data"]
    assert (model["id"], model["object"], model["dtype"]) == ("tiny", "model", "float32")
    assert (model["max_length"], model["formula"]) == (256, "R - lambda*clip(S)")
    reason = "its scores equal the model's own forward of each text alone"
    assert (model["engine"], model["engine_reason"]) == ("packed", reason)
    assert metric(url, f'candor_engine_info{{engine="packed",reason="{reason}"}}') == 1
    probes = httpx2.get(f"{url}/v1/probes").json()["probes"]
    assert {probe["name"]: probe["lambda"] for probe in probes} == {
        "sycophancy": LAMBDA,
        "length": 0.0,
    }
    assert probes[0]["card"]["trait"] == "the text is sycophancy"
    assert [probe["can_raise_reward"] for probe in probes] == [True, True]  # clip from -3
    assert [probe["within_prompt_auroc"] for probe in probes] == [None, None]
    assert [[warning["type"] for warning in probe["warnings"]] for probe in probes] == [
        ["within_prompt_auroc_unknown", "bound_can_raise_reward"]
    ] * 2


def test_how_a_probe_ranks_within_a_prompt_is_listed_with_a_warning_where_it_is_low() -> None:
    def load(metrics: Metrics) -> Rewarder:
        probes = tiny_probes(monitor=False)
        rated = {}
        for (name, probe), value in zip(probes.items(), (0.64, 0.66), strict=True):
            card = probe.loaded.card.model_copy(
                update={
                    "metrics": {"test": {"within_prompt_auroc": value}},
                    "bound": BoundSpec(kind="hinge", reference=0.0),
                }
            )
            rated[name] = ServedProbe(replace(probe.loaded, card=card), LAMBDA)
        return load_tiny(metrics, served=rated)

    with running(tiny_app(load)) as url:
        low, fine = httpx2.get(f"{url}/v1/probes").json()["probes"]
    assert (low["within_prompt_auroc"], fine["within_prompt_auroc"]) == (0.64, 0.66)
    assert [warning["type"] for warning in low["warnings"]] == ["within_prompt_auroc_low"]
    assert "0.640" in low["warnings"][0]["message"]
    assert fine["warnings"] == []


def test_a_hinge_is_listed_as_a_bound_that_cannot_raise_the_reward() -> None:
    def load(metrics: Metrics) -> Rewarder:
        probes = tiny_probes(monitor=False)
        loaded = probes["length"].loaded
        card = loaded.card.model_copy(update={"bound": BoundSpec(kind="hinge", reference=-9.0)})
        hinged = ServedProbe(replace(loaded, card=card), LAMBDA)
        return load_tiny(metrics, served=probes | {"length": hinged})

    with running(tiny_app(load)) as url:
        probes = httpx2.get(f"{url}/v1/probes").json()["probes"]
    assert {probe["name"]: probe["can_raise_reward"] for probe in probes} == {
        "sycophancy": True,
        "length": False,
    }


def test_unknown_paths_do_not_make_new_metric_labels(url: str) -> None:
    for number in range(3):
        httpx2.get(f"{url}/nothing/{number}")
    text = httpx2.get(f"{url}/metrics").text
    assert "/nothing" not in text
    assert 'candor_requests_total{route="other",status="404"}' in text


def test_the_committed_openapi_document_is_the_live_one() -> None:
    committed = (ROOT / "docs" / "openapi.json").read_bytes()
    assert committed == document(), "run: make openapi"


def test_the_openapi_document_describes_every_route_and_resolves_every_reference(url: str) -> None:
    served = httpx2.get(f"{url}/openapi.json").json()
    assert served == json.loads(document())
    described = {
        (method.upper(), path) for path, entry in served["paths"].items() for method in entry
    }
    assert described == set(route_table())
    text = json.dumps(served)
    references = {
        part.split('"', 1)[0] for part in text.split('"$ref": "#/components/schemas/')[1:]
    }
    assert references <= served["components"]["schemas"].keys()
    assert {"RewardRequest", "PenaltyOverride", "ErrorEnvelope"} <= references


def test_the_documents_examples_are_valid() -> None:
    from candor.text.request import parse

    parse(json.dumps(openapi.REQUEST_EXAMPLE).encode())
    answer = RewardResponse.model_validate(openapi.RESPONSE_EXAMPLE)
    for scored in answer.results[0].responses:
        assert scored.reward == scored.base_reward - scored.penalty
    for kind in openapi.error_responses(400, 401, 404, 408, 413, 415, 422, 500, 503).values():
        ErrorEnvelope.model_validate(kind["content"]["application/json"]["example"])


def test_the_version_is_the_distributions(url: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION == httpx2.get(f"{url}/version").json()["version"]
