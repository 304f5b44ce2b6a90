"""Monitors over a real port: they are recorded, hidden from callers, and change no reward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from candor.scoring.served import ServedProbe
from tests.service.serving import (
    BODY,
    error_of,
    load_tiny,
    metric,
    one,
    running,
    score,
    send_bytes,
    tiny_app,
    tiny_probes,
)


def test_a_monitor_is_measured_and_never_shown_to_whoever_asks_for_rewards(url: str) -> None:
    before = metric(url, 'candor_probe_score_count{probe="unseen"}')
    answers = {
        "rewards": score(url, BODY | {"include": ["tokens"]}),
        "closed form": score(
            url, BODY | {"penalties": {"sycophancy": {"closed_form": {"beta": 1}}}}
        ),
        "models": httpx2.get(f"{url}/v1/models"),
        "probes": httpx2.get(f"{url}/v1/probes"),
        "openapi": httpx2.get(f"{url}/openapi.json"),
        "ready": httpx2.get(f"{url}/readyz"),
        "version": httpx2.get(f"{url}/version"),
        "bad body": send_bytes(url, b"{"),
        "bad text": score(url, one("")),
        "bad probe": score(url, one(penalties={"nonsense": {"lambda": 1}})),
        "no route": httpx2.get(f"{url}/nothing"),
    }
    assert [name for name, answer in answers.items() if "unseen" in answer.text] == []
    assert "sycophancy" in answers["rewards"].text  # the control
    assert "sycophancy" in answers["probes"].text
    assert "sycophancy" in answers["bad probe"].text
    assert metric(url, 'candor_probe_score_count{probe="unseen"}') == before + 8
    assert "score.unseen" in httpx2.get(f"{url}/v1/drift").text


def numbers_in(value: Any) -> Iterator[float]:
    """Every number in a JSON value."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(inner)
    elif isinstance(value, float):
        yield value


def test_no_number_of_a_monitor_is_in_an_answer_and_it_moves_no_reward(url: str) -> None:
    """Control: a server where the monitor is a penalised probe does answer its numbers."""
    shown = tiny_probes()
    shown["unseen"] = ServedProbe(shown["unseen"].loaded, 0.0)
    with running(tiny_app(lambda metrics: load_tiny(metrics, served=shown))) as other:
        told = score(other, BODY | {"include": ["tokens"]}).json()["results"]
    with running(
        tiny_app(lambda metrics: load_tiny(metrics, served=tiny_probes(monitor=False)))
    ) as other:
        without = score(other, BODY | {"include": ["tokens"]}).json()["results"]
    hidden = {
        number
        for result in told
        for scored in result["responses"]
        for number in numbers_in(
            [scored["probes"]["unseen"], [token["probes"]["unseen"] for token in scored["tokens"]]]
        )
        if number != 0
    }
    answer = score(url, BODY | {"include": ["tokens"]}).json()["results"]
    assert len(hidden) > 20
    assert hidden <= set(numbers_in(told))  # the control
    assert not hidden & set(numbers_in(answer))
    for result, again in zip(answer, without, strict=True):
        for scored, other in zip(result["responses"], again["responses"], strict=True):
            assert scored["base_reward"] == other["base_reward"]
            # Rounding: a monitor is one more column in its layer's product.
            assert scored["reward"] == pytest.approx(other["reward"], abs=1e-5)
            assert scored["probes"].keys() == other["probes"].keys()


def test_a_monitor_cannot_be_told_from_a_probe_that_does_not_exist(url: str) -> None:
    answers = [
        error_of(score(url, BODY | {"penalties": {name: {"lambda": 1}}}))
        for name in ("unseen", "nonsense")
    ]
    assert [answer.type for answer in answers] == ["unknown_probe"] * 2
    assert answers[0].message == answers[1].message
