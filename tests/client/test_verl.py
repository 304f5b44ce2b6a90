"""The verl adapter, loaded and called as verl does, against a live server."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest

from candor.client import PermanentError, Unreachable
from candor.jobs.running.processes import free_port
from tests.client.asking import QUESTION, TOO_LONG, native
from tests.client.verl import batch_of_verl, loaded_by_verl
from tests.paths import ROOT

VERL = ROOT / "client" / "candor" / "client" / "verl.py"


@pytest.mark.parametrize("path", ["pkg://candor.client.verl", str(VERL)])
def test_verl_scores_a_chunk_as_tasks_with_the_same_keys_each(url: str, path: str) -> None:
    replies = [f"Poem {number} is about the sea." for number in range(24)]
    prompt = np.array(QUESTION, dtype=object)  # what a parquet list of messages becomes
    kwargs = {"url": url, "penalties": MappingProxyType({"sycophancy": {"lambda": 2.0}})}
    scored = batch_of_verl(loaded_by_verl(path, kwargs), replies, {"prompt": prompt})
    expected = native(url, replies, {"sycophancy": {"lambda": 2.0}}, messages=QUESTION)
    assert [one["score"] for one in scored] == pytest.approx(
        [one.reward for one in expected], abs=1e-5
    )
    keys = {"score", "base_reward", "penalty", "probe/sycophancy", "probe/length"}
    assert [set(one) for one in scored] == [keys] * 24
    assert all(type(value) is float for one in scored for value in one.values())


def test_verl_samples_that_cannot_be_scored_raise(url: str) -> None:
    function = loaded_by_verl("pkg://candor.client.verl", {"url": url})
    with pytest.raises(PermanentError, match="too_long"):
        batch_of_verl(function, ["good", TOO_LONG], {"prompt": QUESTION})
    with pytest.raises(ValueError, match="extra_info has no 'prompt'"):
        batch_of_verl(function, ["good"], {"question": QUESTION})
    named = loaded_by_verl("pkg://candor.client.verl", {"url": url, "prompt_key": "question"})
    assert len(batch_of_verl(named, ["good"], {"question": QUESTION})) == 1
    away = {"url": f"http://127.0.0.1:{free_port()}", "patience_s": 0.0}
    with pytest.raises(Unreachable):
        batch_of_verl(loaded_by_verl("pkg://candor.client.verl", away), ["a"], {"prompt": QUESTION})
