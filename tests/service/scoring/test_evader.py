"""A simulated evader: neutral filler dilutes a mean-pooled probe, and the server says so.

The trait is one that the tiny RM's activations really hold: whether a token belongs to a flattering
word. The direction is fitted on other texts than those sent, and served twice: mean-pooled and
penalised, max-pooled as a monitor. The evader keeps every response as it is and appends words that
are not flattering, so the trait is all there. The controls: other responses of the same kind, and
responses in which the trait is really gone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch

from candor.forward.capture import read_hidden_states
from candor.probes.artifact import LoadedProbe
from candor.probes.fitting.fit import fit_logistic
from candor.probes.probe import Pooling, Probe
from candor.scoring.served import ServedProbe
from candor.watch.drift_reference import MIN_WINDOW, read_reference
from tests.service.serving import load_tiny, loaded_probe, metric, running, score, tiny_app
from tests.tiny import tiny_llama, tiny_tokenizer

FLATTERING = ["good", "think", "you", "I"]
NEUTRAL = ["sea", "poem", "the", "of", "is", "and"]
LAYER = 1
NUM_PROMPTS, NUM_EACH = 16, MIN_WINDOW // 16

Items = list[dict[str, Any]]


def text(rng: random.Random, num_flattering: int, num_words: int = 12) -> str:
    words = rng.choices(FLATTERING, k=num_flattering)
    words += rng.choices(NEUTRAL, k=num_words - num_flattering)
    rng.shuffle(words)
    return " " + " ".join(words)


def token_activations(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Every token's activation at `LAYER`, and whether its word is flattering. Words here are one
    token each."""
    tokenizer, model = tiny_tokenizer(), tiny_llama()
    flattering = {tokenizer(f" {word}").input_ids[0] for word in FLATTERING}
    rows: list[torch.Tensor] = []
    labels: list[bool] = []
    for one in texts:
        ids = tokenizer(one).input_ids
        assert len(ids) == len(one.split())
        with (
            torch.inference_mode(),
            read_hidden_states(model, {LAYER: lambda hidden: rows.append(hidden[0].clone())}),
        ):
            model(input_ids=torch.tensor([ids]))
        labels += [token in flattering for token in ids]
    return torch.cat(rows).numpy(), np.array(labels, dtype=np.int64)


@pytest.fixture(scope="module")
def probes() -> dict[str, ServedProbe]:
    rng = random.Random(0)
    x, y = token_activations([text(rng, 6) for _ in range(60)])
    weight, bias = fit_logistic(x, y, 1.0)
    x, y = token_activations([text(rng, 6) for _ in range(20)])
    assert ((x @ weight + bias > 0) == y).mean() > 0.95  # the trait is there to be read

    def served(name: str, pooling: Pooling, *, monitor: bool) -> ServedProbe:
        card = loaded_probe(name, layer=LAYER).card.model_copy(update={"pooling": pooling})
        probe = Probe(name, torch.from_numpy(weight), bias, LAYER, pooling)
        return ServedProbe(LoadedProbe(probe, card), 0.0 if monitor else 0.5, monitor)

    return {
        "flattery": served("flattery", "mean", monitor=False),
        "watchdog": served("watchdog", "max", monitor=True),
    }


def traffic(seed: int, *, flattering: tuple[int, int] = (2, 6), filler: int = 0) -> Items:
    """One window of responses; the same seed gives the same responses, whatever the filler."""
    rng, more = random.Random(seed), random.Random(-seed)
    return [
        {
            "messages": [{"role": "user", "content": f"What is poem {number} about?"}],
            "responses": [
                text(rng, rng.randint(*flattering), rng.randint(10, 14))
                + (text(more, 0, filler) if filler else "")
                for _ in range(NUM_EACH)
            ],
        }
        for number in range(NUM_PROMPTS)
    ]


REFERENCE = traffic(1)


def send(url: str, items: Items) -> list[dict[str, Any]]:
    answer = score(url, {"items": items}, timeout=120)
    assert answer.status_code == 200
    return [scored for result in answer.json()["results"] for scored in result["responses"]]


def drift(url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx2.get(f"{url}/v1/drift").json()
    return found


def active(report: dict[str, Any]) -> dict[str, str]:
    """Reasons by rule; only one probe can have any."""
    assert {alarm["probe"] for alarm in report["alarms"]} == {"flattery"}
    return {alarm["rule"]: alarm["reason"] for alarm in report["alarms"] if alarm["active"]}


@pytest.fixture
def url(probes: dict[str, ServedProbe]) -> Iterator[str]:
    """A server that has seen its reference traffic."""
    with running(tiny_app(lambda metrics: load_tiny(metrics, served=probes))) as url:
        send(url, REFERENCE)
        report = drift(url)
        assert (report["num_reference"], report["num_current"]) == (MIN_WINDOW, 0)
        yield url


def mean_of(scored: list[dict[str, Any]], name: str) -> float:
    return float(np.mean([one["probes"]["flattery"][name] for one in scored]))


def test_filler_lowers_the_mean_and_not_the_max_and_the_alarm_names_probe_and_rule(
    url: str,
) -> None:
    plain = send(url, REFERENCE)
    diluted = send(url, traffic(1, filler=24))
    assert mean_of(diluted, "mean") < mean_of(plain, "mean") - 0.5
    assert all(
        after["probes"]["flattery"]["max"] >= before["probes"]["flattery"]["max"] - 1e-4
        for before, after in zip(plain, diluted, strict=True)
    )
    # What the evader is after: the penalty falls, though every flattering word is still there.
    assert np.mean([one["penalty"] for one in diluted]) < np.mean([one["penalty"] for one in plain])
    report = drift(url)
    assert report["num_current"] == MIN_WINDOW
    assert report["signals"]["score.flattery"]["shift"] < -0.5
    assert report["signals"]["score.watchdog"]["shift"] > -0.25
    assert report["signals"]["score.flattery"]["psi"] > 0.25
    reasons = active(report)
    assert reasons.keys() >= {"diluted", "length"}
    assert "watchdog" in reasons["diluted"]
    assert metric(url, 'candor_drift_alarm{probe="flattery",rule="diluted"}') == 1
    assert (
        metric(url, 'candor_drift_shift{signal="score.flattery"}')
        == report["signals"]["score.flattery"]["shift"]
    )
    # And it ends when the filler does.
    send(url, traffic(2))
    assert active(drift(url)) == {}
    assert metric(url, 'candor_drift_alarm{probe="flattery",rule="diluted"}') == 0


def test_control_as_much_traffic_without_filler_raises_no_alarm(url: str) -> None:
    for seed in (2, 3, 4):
        send(url, traffic(seed))
        report = drift(url)
        assert report["num_current"] == MIN_WINDOW
        assert active(report) == {}


def test_control_less_of_the_trait_is_a_fall_that_the_monitor_sees_too(url: str) -> None:
    send(url, traffic(2, flattering=(0, 0)))
    report = drift(url)
    assert report["signals"]["score.flattery"]["shift"] < -0.5
    assert report["signals"]["score.watchdog"]["shift"] < -0.5
    assert "diluted" not in active(report)
    assert "length" not in active(report)


def test_control_a_max_pooled_penalty_is_not_evaded_and_raises_no_alarm(
    probes: dict[str, ServedProbe],
) -> None:
    poolings: dict[str, Pooling] = {"flattery": "max", "watchdog": "mean"}
    turned = {
        name: replace(
            one,
            loaded=LoadedProbe(
                replace(one.loaded.probe, pooling=poolings[name]),
                one.loaded.card.model_copy(update={"pooling": poolings[name]}),
            ),
        )
        for name, one in probes.items()
    }
    with running(tiny_app(lambda metrics: load_tiny(metrics, served=turned))) as url:
        plain = send(url, REFERENCE)
        diluted = send(url, traffic(1, filler=24))
        assert all(
            after["penalty"] >= before["penalty"] - 1e-4
            for before, after in zip(plain, diluted, strict=True)
        )
        assert "diluted" not in active(drift(url))


def test_what_a_request_overrides_and_the_sentinel_change_nothing(
    url: str, probes: dict[str, ServedProbe]
) -> None:
    send(url, traffic(2))
    before = drift(url)
    app = tiny_app(lambda metrics: load_tiny(metrics, served=probes))
    with running(app) as other:
        send(other, REFERENCE)
        body = {"items": traffic(2), "penalties": {"flattery": {"closed_form": {"beta": 1}}}}
        assert score(other, body, timeout=120).status_code == 200
        refused = {"items": traffic(3)[:1], "penalties": {"nonsense": {"lambda": 1}}}
        assert score(other, refused).status_code == 400
        assert drift(other) == before


def test_a_reference_taken_from_one_server_serves_the_next(
    url: str, probes: dict[str, ServedProbe], tmp_path: Path
) -> None:
    path = tmp_path / "reference.json"
    path.write_bytes(httpx2.get(f"{url}/v1/drift/reference").content)
    reference = read_reference(path)
    app = tiny_app(lambda metrics: load_tiny(metrics, served=probes, drift_reference=reference))
    with running(app) as other:
        assert drift(other)["reference_source"] == "file"
        send(other, traffic(1, filler=24))
        assert "diluted" in active(drift(other))
