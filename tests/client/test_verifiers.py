"""The adapter of verifiers, given what the library gives, on a live server."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from candor.client.errors import PermanentError
from candor.client.rows import RewardServer, Unscorable
from candor.client.verifiers import candor_reward, openai_form
from tests.client.asking import QUESTION, REPLIES, native, run


class Turn(BaseModel):
    """A message of verifiers 0.4.0 (`verifiers/v1/types.py`)."""

    role: str
    content: Any = None
    tool_calls: list[dict[str, str]] | None = None


class Trace:
    """The part of verifiers 0.4.0's `Trace` (`v1/trace.py`) that rewards use."""

    def __init__(self, *messages: Turn) -> None:
        self.messages = list(messages)
        self.metrics: dict[str, float] = {}

    def record_metric(self, name: str, value: float) -> None:
        self.metrics[name] = float(value)


def test_verifiers_traces_are_scored_at_their_last_assistant_message(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANDOR_REWARD_URL", url)
    asked = Turn(role="user", content=[{"type": "text", "text": QUESTION[0]["content"]}])
    trace = Trace(asked, Turn(role="assistant", content=REPLIES[0]), Turn(role="user", content="x"))
    value = run(lambda: candor_reward(trace))
    (expected,) = native(url, REPLIES[:1], messages=QUESTION)
    assert value == pytest.approx(expected.reward, abs=1e-5)
    names = {"base_reward", "penalty", "score/sycophancy", "score/length"}
    assert set(trace.metrics) == {f"candor/{name}" for name in names}


def test_verifiers_traces_without_a_text_to_score_raise(url: str) -> None:
    call = [{"id": "1", "name": "look", "arguments": "{}"}]
    for messages in (
        [Turn(role="user", content="a")],
        [Turn(role="user", content="a"), Turn(role="assistant", tool_calls=call)],
        [
            Turn(role="user", content=[{"type": "image_url", "image_url": "x"}]),
            Turn(role="assistant", content="a"),
        ],
    ):
        with pytest.raises((Unscorable, PermanentError)):  # the template writes no tool calls
            run(lambda messages=messages: candor_reward(Trace(*messages), server=RewardServer(url)))


def test_without_an_address_the_adapters_say_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CANDOR_REWARD_URL", raising=False)
    trace = Trace(Turn(role="user", content="a"), Turn(role="assistant", content="b"))
    with pytest.raises(ValueError, match="CANDOR_REWARD_URL"):
        run(lambda: candor_reward(trace))


def test_tool_calls_get_the_form_that_templates_read() -> None:
    calls = [{"id": "1", "name": "look", "arguments": "{}"}]
    told = openai_form({"role": "assistant", "tool_calls": calls})
    function = {"name": "look", "arguments": "{}"}
    assert told["tool_calls"] == [{"id": "1", "type": "function", "function": function}]
    assert openai_form(told) == told
    assert openai_form({"role": "user", "content": "a"}) == {"role": "user", "content": "a"}
