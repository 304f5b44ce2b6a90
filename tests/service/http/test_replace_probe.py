"""A probe is replaced while serving: whole requests only, the right numbers, and refusals that
leave the old probe in place."""

from __future__ import annotations

import base64
import dataclasses
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
import torch
from safetensors.torch import save as tensor_bytes

from candor.item import BatchResult, Item
from candor.probes.artifact import LoadedProbe
from candor.probes.card import Lineage
from candor.scoring.served import Served, ServedProbe
from tests.service.replacing import body_of
from tests.service.serving import (
    BODY,
    LAMBDA,
    Scripted,
    error_of,
    load_tiny,
    loaded_probe,
    metric,
    running,
    score,
    tiny_app,
    tiny_probes,
)

PROBE = "sycophancy"


def version(number: int, *, layer: int = 1, name: str = PROBE) -> LoadedProbe:
    """Another probe of the name, as a refresh would write it."""
    loaded = loaded_probe(name, seed=100 + number, layer=layer)
    lineage = Lineage(version=number, parent_sha256="a" * 64, labels_sha256="b" * 64, num_labels=9)
    return LoadedProbe(loaded.probe, loaded.card.model_copy(update={"lineage": lineage}))


def replace(url: str, body: dict[str, Any], **options: Any) -> httpx2.Response:
    return httpx2.post(f"{url}/v1/probes/replace", json=body, timeout=60, **options)


def scores_of(answer: dict[str, Any], name: str = PROBE) -> list[float]:
    return [
        response["probes"][name]["score"]
        for result in answer["results"]
        for response in result["responses"]
    ]


def served_scores(loaded: LoadedProbe, **settings: Any) -> list[float]:
    """S of `BODY` by a server that was started with this probe."""
    probes = {loaded.card.name: ServedProbe(loaded, LAMBDA)}
    app = tiny_app(lambda metrics: load_tiny(metrics, served=probes, **settings))
    with running(app) as url:
        return scores_of(score(url).json())


@pytest.mark.parametrize("engine", ["packed", "padded"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_new_probe_gives_the_numbers_of_a_server_started_with_it(
    engine: str, layer: int
) -> None:
    """At every layer, the last one included, which the packed engine computes for few tokens only
    where no probe reads it."""
    new = version(2, layer=layer)
    expected = served_scores(new, engine=engine)
    served = {PROBE: ServedProbe(loaded_probe(PROBE, seed=1), LAMBDA)}
    settings: dict[str, Any] = {"engine": engine, "penalties": {PROBE: LAMBDA}}
    with running(tiny_app(lambda m: load_tiny(m, served=served, **settings))) as url:
        before = score(url).json()
        done = replace(url, body_of(new))
        assert done.status_code == 200, done.text
        after = score(url).json()
    assert after["model"]["engine"] == engine
    assert scores_of(after) == pytest.approx(expected, abs=1e-5)
    assert scores_of(before) != pytest.approx(expected, abs=1e-2)
    # R does not depend on the probe, and the reward is of the new S.
    for old, now in zip(before["results"], after["results"], strict=True):
        for one, other in zip(old["responses"], now["responses"], strict=True):
            assert one["base_reward"] == pytest.approx(other["base_reward"], abs=1e-5)
            bounded = min(3.0, max(-3.0, other["probes"][PROBE]["score"]))
            assert other["probes"][PROBE]["bounded"] == pytest.approx(bounded)
            assert other["penalty"] == pytest.approx(LAMBDA * bounded)


def test_answers_and_lists_name_the_version_and_the_hash() -> None:
    new = version(2)
    old = tiny_probes()
    with running(tiny_app()) as url:
        first = score(url).json()["model"]
        assert first["probes_sha256"] == Served(old).sha256
        assert first["probes"] == {
            name: {"version": 1, "sha256": old[name].loaded.sha256} for name in (PROBE, "length")
        }
        answer = replace(url, body_of(new)).json()
        assert answer["before"] == first["probes"][PROBE]
        assert answer["now"] == {"version": 2, "sha256": new.sha256}
        assert (answer["lambda"], answer["monitor"]) == (0.0, False)
        second = score(url).json()["model"]
        assert second["probes_sha256"] == answer["probes_sha256"] != first["probes_sha256"]
        assert second["probes"] == first["probes"] | {PROBE: answer["now"]}
        listed = httpx2.get(f"{url}/v1/probes").json()
        assert listed["probes_sha256"] == answer["probes_sha256"]
        assert [(p["version"], p["sha256"]) for p in listed["probes"]] == [
            tuple(second["probes"][name].values()) for name in (PROBE, "length")
        ]
        assert listed["probes"][0]["card"]["lineage"]["version"] == 2
        sample = f'candor_probe_info{{probe="{PROBE}",sha256="{new.sha256}",version="2"}}'
        assert metric(url, sample) == 1
        # The trainers' bodies have no room for it: a header says it.
        flat = httpx2.post(f"{url}/slime", json={"prompt": "p", "response": "r", "label": None})
        assert flat.status_code == 200, flat.text
        assert flat.headers["x-candor-probes"] == answer["probes_sha256"]


def test_a_monitor_is_replaced_without_a_trace_in_answers() -> None:
    new = version(2, name="unseen")
    with running(tiny_app()) as url:
        before = score(url).json()
        done = replace(url, body_of(new)).json()
        assert done["monitor"] is True
        after = score(url).json()
        assert after["model"] == before["model"]
        assert scores_of(after) == pytest.approx(scores_of(before), abs=1e-5)
        assert "unseen" not in httpx2.get(f"{url}/v1/probes").text
        assert metric(url, f'candor_probe_info{{probe="unseen",sha256="{new.sha256}",version="2"}}')


def test_kappa_is_turned_into_lambda_by_the_new_card() -> None:
    new = version(2)
    settings = {"model": "tiny", "kappas": {PROBE: 0.5}}
    calibration = new.card.calibration.model_copy(update={"std_R": 8.0, "std_bounded_S": 0.25})
    new = LoadedProbe(new.probe, new.card.model_copy(update={"calibration": calibration}))
    with running(tiny_app(lambda m: load_tiny(m, **settings))) as url:
        assert replace(url, body_of(new)).json()["lambda"] == 0.5 * 8.0 / 0.25
        response = score(url).json()["results"][0]["responses"][0]
        assert response["probes"][PROBE]["lambda"] == 16.0


class Held:
    """Blocks every forward that has the text, until it is let go."""

    def __init__(self, token_count: int) -> None:
        self.token_count = token_count
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, items: Any) -> None:
        if any(item.response_end - item.response_start >= self.token_count for item in items):
            self.begun.set()
            assert self.go.wait(30)


def test_a_request_in_flight_is_answered_by_the_old_probe_as_a_whole() -> None:
    """Its first batch is in the model at the swap, its other batches begin after it."""
    held = Held(60)
    many = [f"number {n} is good" for n in range(40)]
    body = {
        "items": [{"messages": BODY["items"][0]["messages"], "responses": ["sea " * 60, *many]}]
    }
    settings: dict[str, Any] = {"workers": 2, "max_batch_tokens": 96, "before": held}
    old, new = version(2), version(3, layer=2)
    expected = {}
    for loaded in (old, new):
        probes = {PROBE: ServedProbe(loaded, LAMBDA)}
        with running(tiny_app(lambda m, p=probes: load_tiny(m, served=p))) as url:
            expected[loaded.sha256] = scores_of(score(url, body).json())
    served = {PROBE: ServedProbe(old, LAMBDA)}
    with (
        running(tiny_app(lambda m: load_tiny(m, served=served, **settings))) as url,
        ThreadPoolExecutor(1) as threads,
    ):
        waiting = threads.submit(score, url, body, timeout=60)
        try:
            assert held.begun.wait(30)
            assert replace(url, body_of(new)).status_code == 200
            short = {"items": [{**body["items"][0], "responses": many[:3]}]}
            by_new = score(url, short).json()
            assert not waiting.done()
        finally:
            held.go.set()
        by_old = waiting.result(60).json()
        later = score(url, body).json()
    assert by_old["model"]["probes"][PROBE]["sha256"] == old.sha256
    assert scores_of(by_old) == pytest.approx(expected[old.sha256], abs=1e-4)
    assert by_new["model"]["probes"][PROBE]["sha256"] == new.sha256
    assert scores_of(by_new) == pytest.approx(expected[new.sha256][1:4], abs=1e-4)
    assert scores_of(later) == pytest.approx(expected[new.sha256], abs=1e-4)


def test_under_load_every_answer_is_of_one_version_and_of_the_right_one() -> None:
    versions = [version(n, layer=n % 3) for n in range(2, 8)]
    expected = {loaded.sha256: served_scores(loaded) for loaded in versions}
    served = {PROBE: ServedProbe(versions[0], LAMBDA)}
    answers: list[dict[str, Any]] = []
    stop = threading.Event()

    def keep_asking(url: str) -> None:
        with httpx2.Client() as client:
            while not stop.is_set():
                answer = client.post(f"{url}/v1/rewards", json=BODY, timeout=60)
                assert answer.status_code == 200, answer.text
                answers.append(answer.json())

    app = tiny_app(lambda m: load_tiny(m, served=served, workers=2, max_batch_tokens=64))
    with running(app) as url, ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(keep_asking, url) for _ in range(4)]
        try:
            for loaded in [*versions[1:], *versions[:3]]:
                num_before = len(answers)
                while len(answers) < num_before + 12:
                    assert not any(one.done() for one in asking)
                assert replace(url, body_of(loaded)).status_code == 200
                now = score(url).json()
                assert now["model"]["probes"][PROBE]["sha256"] == loaded.sha256
                assert scores_of(now) == pytest.approx(expected[loaded.sha256], abs=1e-4)
        finally:
            stop.set()
        for one in asking:
            one.result(30)
        rewarder = app.state.server.rewarder
        assert rewarder.live._held == {}
        assert {p.name for s in rewarder._engine._layers.values() for p in s.probes} == {
            f"{PROBE}@{versions[2].sha256}"
        }
    seen = set()
    for answer in answers:
        sha256 = answer["model"]["probes"][PROBE]["sha256"]
        assert scores_of(answer) == pytest.approx(expected[sha256], abs=1e-4)
        seen.add(sha256)
    assert len(seen) >= 3


def wrong_bodies() -> Iterator[tuple[dict[str, Any], str]]:
    good = version(2)
    fine = body_of(good)
    yield fine | {"card": fine["card"] | {"name": "other"}}, "card.name"
    yield {"card": fine["card"]}, "weights: is required"
    yield fine | {"path": "/etc/passwd"}, "path: unknown field"
    yield fine | {"weights": "not base64!"}, "weights: must be the bytes"
    yield fine | {"weights": base64.b64encode(b"\x80\x04pickle").decode()}, "weights"
    yield fine | {"weights": ""}, "weights"
    yield body_of(good, layer=-1), "card: layer"
    yield body_of(good, colour="red"), "card: colour"
    yield body_of(good, card_version=9), "card has card_version 9"
    yield body_of(good, layer=3), "probe reads 3, the model has 0 to 2"
    yield body_of(good, model=fine["card"]["model"] | {"weights_sha256": "f" * 64}), "model weights"
    yield body_of(good, template_sha256="f" * 64), "chat template"
    yield body_of(good, model=fine["card"]["model"] | {"hidden_size": 31}), "weight"
    lineage = fine["card"]["lineage"] | {"version": 1}
    yield body_of(good, lineage=lineage), "card: lineage.version"
    for value in (float("nan"), float("inf")):
        weight = torch.full((32,), value)
        tensors = {"weight": weight, "bias": torch.tensor(0.0)}
        yield fine | {"weights": base64.b64encode(tensor_bytes(tensors)).decode()}, "not finite"
    half = {"weight": torch.zeros(32).half(), "bias": torch.tensor(0.0)}
    yield fine | {"weights": base64.b64encode(tensor_bytes(half)).decode()}, "float32"


@pytest.mark.parametrize(("body", "words"), [*wrong_bodies()])
def test_a_probe_that_does_not_fit_is_refused_by_the_field_and_the_old_one_is_served_on(
    url: str, body: dict[str, Any], words: str
) -> None:
    before = score(url).json()
    refused = replace(url, body)
    error = error_of(refused)
    assert refused.status_code == 400
    assert words in error.message
    after = score(url).json()
    assert after["model"] == before["model"]
    assert scores_of(after) == pytest.approx(scores_of(before), abs=1e-5)


def test_a_probe_whose_scores_overflow_is_not_served() -> None:
    """Every weight is finite, and the scores of the sentinel's texts are not."""
    huge = version(2)
    huge = LoadedProbe(dataclasses.replace(huge.probe, weight=torch.full((32,), 3e38)), huge.card)
    with running(tiny_app()) as url:
        before = score(url).json()["model"]
        refused = replace(url, body_of(huge))
        assert (refused.status_code, error_of(refused).type) == (422, "non_finite_score")
        assert score(url).json()["model"] == before
        assert score(url).status_code == 200


def test_an_engine_that_cannot_read_another_probe_says_so_and_serves_on() -> None:
    class Fixed(Scripted):
        name = "fixed"

        def read_probes(self, probes: Any) -> None:
            super(Scripted, self).read_probes(probes)

        def score(self, items: list[Item]) -> BatchResult:
            return self.inner.score(items)

    def load(metrics: Any) -> Any:
        rewarder = load_tiny(metrics, before=lambda _: None)
        rewarder.live._engine = Fixed(rewarder.live._engine.inner, lambda _: None)
        return rewarder

    with running(tiny_app(load)) as url:
        before = score(url).json()
        refused = replace(url, body_of(version(2)))
        assert refused.status_code == 400
        assert "cannot read other probes while it runs" in error_of(refused).message
        assert score(url).json()["model"] == before["model"]


def test_it_takes_the_operators_key_and_no_other() -> None:
    keys = {"api_key": "api-key", "operator_key": "operator-key"}
    with running(tiny_app(**keys)) as url:
        body = body_of(version(2))
        statuses = [
            replace(url, body, headers={"Authorization": f"Bearer {key}"}).status_code
            for key in ("wrong", "api-key", "operator-key")
        ]
    assert statuses == [401, 401, 200]


def test_the_drift_windows_of_that_probe_begin_again_and_the_others_go_on() -> None:
    with running(tiny_app()) as url:
        for _ in range(80):
            score(url)
        before = httpx2.get(f"{url}/v1/drift").json()
        assert before["num_current"] == 128
        assert before["signals"][f"score.{PROBE}"]["psi"] is not None
        assert replace(url, body_of(version(2))).status_code == 200
        after = httpx2.get(f"{url}/v1/drift").json()
        assert (after["num_reference"], after["num_current"]) == (128, 128)
        assert after["signals"][f"score.{PROBE}"]["reference"] is None
        for same in ("base_reward", "score.length", "score.unseen"):
            assert json.dumps(after["signals"][same]) == json.dumps(before["signals"][same])
        missing = httpx2.get(f"{url}/v1/drift/reference")
        assert missing.status_code == 503
        score(url)
        begun = httpx2.get(f"{url}/v1/drift").json()["signals"][f"score.{PROBE}"]
        assert begun["reference"] is not None
        assert begun["psi"] is None
