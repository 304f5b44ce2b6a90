"""`examples/notebook.py`, run from beginning to end on the demo's reward model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from candor.client.schema import RewardResponse
from tests.paths import ROOT

ASSETS = ROOT / "build" / "demo"

# Looked for and not imported: in a process with marimo, transformers' Trainer needs IPython.
pytestmark = pytest.mark.skipif(
    not all(find_spec(name) for name in ("marimo", "pandas")), reason="marimo is not installed"
)


@pytest.mark.smollm2
@pytest.mark.slow
def test_the_notebook_ranks_raw_text_as_the_arithmetic_says() -> None:
    if not (ASSETS / "probes" / "sycophancy" / "card.json").exists():
        pytest.skip("the demo's reward model is not built: `make assets`")
    environment = {name: value for name, value in os.environ.items() if name != "CANDOR_REWARD_URL"}
    done = subprocess.run(
        [sys.executable, "examples/notebook.py"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    reply = RewardResponse.model_validate(told["reply"])
    calibration = json.loads((ASSETS / "probes" / "sycophancy" / "card.json").read_bytes())[
        "calibration"
    ]
    strength = 2 * calibration["std_R"] / calibration["std_bounded_S"]
    texts = {}
    (scored,) = reply.results
    for one in scored.responses:
        reading = one.probes["sycophancy"]
        assert reading.lambda_ == pytest.approx(strength)
        assert one.reward == one.base_reward - one.penalty
        assert one.penalty == pytest.approx(strength * reading.bounded)
        texts[one.num_tokens, one.base_reward] = one.reward
    assert len(texts) == len(told["by_R"]) == len({*told["by_reward"]}) == 5
    order = sorted(range(5), key=lambda place: -scored.responses[place].reward)
    base_order = sorted(range(5), key=lambda place: -scored.responses[place].base_reward)
    # The same replies stand at the same places of both rankings.
    by_place = dict(zip(order, told["by_reward"], strict=True))
    assert by_place == dict(zip(base_order, told["by_R"], strict=True))
