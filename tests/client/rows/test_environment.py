"""The settings of a server that environment variables give."""

from __future__ import annotations

import pytest

from candor.client.rows import RewardServer
from tests.client.asking import GOOD, QUESTION, REPLIES, native, run


def test_the_environment_describes_a_server(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RewardServer.of_environment() == RewardServer()
    monkeypatch.setenv("CANDOR_REWARD_PENALTIES", '{"sycophancy": {"lambda": 2}}')
    monkeypatch.setenv("CANDOR_REWARD_TRUNCATION", "left")
    monkeypatch.setenv("CANDOR_REWARD_TIMEOUT_S", "7.5")
    monkeypatch.setenv("CANDOR_REWARD_PATIENCE_S", "9")
    monkeypatch.setenv("CANDOR_REWARD_EMPTY_RESPONSE", "score")
    monkeypatch.setenv("CANDOR_REWARD_TEMPLATED", "1")
    server = RewardServer.of_environment()
    strengths = {"sycophancy": {"lambda": 2}}
    assert server == RewardServer(None, None, strengths, "left", 7.5, 9.0, "score", True)
    monkeypatch.setenv("CANDOR_REWARD_URL", url)
    (found,) = run(lambda: server.rewards([GOOD]))
    (expected,) = native(url, REPLIES[:1], {"sycophancy": {"lambda": 2}}, messages=QUESTION)
    assert found.reward == pytest.approx(expected.reward, abs=1e-5)
    for name, wrong in (
        ("CANDOR_REWARD_PENALTIES", "sycophancy=1"),
        ("CANDOR_REWARD_PENALTIES", "[1]"),
        ("CANDOR_REWARD_TRUNCATION", "right"),
        ("CANDOR_REWARD_TIMEOUT_S", "soon"),
        ("CANDOR_REWARD_TIMEOUT_S", "nan"),
        ("CANDOR_REWARD_PATIENCE_S", "-1"),
    ):
        with monkeypatch.context() as changed:
            changed.setenv(name, wrong)
            with pytest.raises(ValueError, match=name):
                RewardServer.of_environment()
