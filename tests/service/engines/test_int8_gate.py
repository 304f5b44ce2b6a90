"""int8 serves where it ranks the user's candidates as the model does, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from candor import assemble
from candor.engines import int8_gate
from candor.engines.int8_gate import MIN_PROMPTS, GateError, compare, read_gate
from candor.item import Reading, Score
from candor.models.checkpoint import ModelRefused
from candor.settings import Settings, SettingsError
from candor.watch.metrics import Metrics
from tests.tiny import save_tiny, tiny_llama, tiny_tokenizer

WORDS = ("the", "poem", "is", "about", "sea", "and", "good", "blue", "what", "think", "answer")


def line(number: int) -> dict[str, Any]:
    texts = [" ".join(WORDS[(number * k + k) % 9 :][: 2 + k]) for k in range(1, 7)]
    return {
        "key": f"p{number}",
        "messages": [{"role": "user", "content": f"what is {WORDS[number % len(WORDS)]}?"}],
        "responses": [{"text": text, "finish_reason": "stop"} for text in texts],
    }


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return write(tmp_path / "gate.jsonl", [line(number) for number in range(20)])


def test_rollouts_are_read_as_they_are(gate: Path) -> None:
    prompts = read_gate(gate)
    assert len(prompts) == 20
    assert len(prompts[0].responses) == 6
    assert read_gate(None) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"responses": [{"text": "one"}]}, "line 3: responses: "),
        ({"messages": []}, "line 3: messages: "),
        ({"responses": [{"txt": "a"}, {"text": "b"}]}, "line 3: responses.0.text: "),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    lines = [line(number) for number in range(MIN_PROMPTS)]
    lines[2] |= change
    with pytest.raises(GateError, match=told):
        read_gate(write(tmp_path / "bad.jsonl", lines))


def test_few_prompts_no_json_and_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GateError, match=f"at least {MIN_PROMPTS}"):
        read_gate(write(tmp_path / "few.jsonl", [line(0)]))
    (tmp_path / "text.jsonl").write_text("no json\n")
    with pytest.raises(GateError, match=r"line 1: .*JSON"):
        read_gate(tmp_path / "text.jsonl")
    with pytest.raises(GateError, match="cannot be read"):
        read_gate(tmp_path / "absent")


def scores(rewards: list[float], probe: list[float]) -> list[Score]:
    return [Score(r, {"p": Reading(s, s, s)}) for r, s in zip(rewards, probe, strict=True)]


FLOAT = [scores([0.0, 1.0, 2.0, 3.0], [4.0, 3.0, 1.0, 2.0])] * MIN_PROMPTS


def test_the_same_order_passes_whatever_the_values() -> None:
    moved = [scores([10.0, 10.1, 10.2, 10.3], [0.4, 0.3, 0.1, 0.2])] * MIN_PROMPTS
    agreement = compare(FLOAT, moved)
    assert agreement.spearman == pytest.approx({"R": 1.0, "p": 1.0})
    assert agreement.regret == 0
    assert agreement.reason is None


def test_another_order_of_r_or_of_one_probe_does_not() -> None:
    turned = [scores([3.0, 2.0, 1.0, 0.0], [4.0, 3.0, 1.0, 2.0])] * MIN_PROMPTS
    assert "R -1.000" in str(compare(FLOAT, turned).reason)
    other = [scores([0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0])] * MIN_PROMPTS
    reason = str(compare(FLOAT, other).reason)
    assert "p -0.800" in reason
    assert "R " not in reason


def test_a_wrong_winner_counts_by_what_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    swapped = [scores([0.0, 1.0, 3.0, 2.0], [4.0, 3.0, 1.0, 2.0])] * MIN_PROMPTS
    monkeypatch.setattr(int8_gate, "MIN_AGREEMENT", 0.5)
    assert compare(FLOAT, swapped).regret == pytest.approx(1 / 1.118, rel=1e-3)
    assert "loses 0.894 standard deviations" in str(compare(FLOAT, swapped).reason)


def test_ties_share_their_rank_as_scipy_has_it() -> None:
    ours, theirs = [1.0, 2.0, 2.0, 5.0, 5.0, 0.0], [1.0, 1.0, 3.0, 2.0, 2.0, 2.0]
    zeros = [0.0] * len(ours)
    found = compare([scores(ours, zeros)], [scores(theirs, zeros)]).spearman
    assert found == pytest.approx({"R": spearmanr(ours, theirs).statistic})


def test_nothing_told_apart_is_no_agreement() -> None:
    flat = [scores([1.0] * 4, [4.0, 3.0, 1.0, 2.0])] * MIN_PROMPTS
    assert "R 0.000" in str(compare(FLOAT, flat).reason)
    assert "only 0 prompts" in str(compare(flat, flat).reason)


def load(folder: Path, gate: Path, **options: Any) -> tuple[str, float]:
    model = tiny_llama()
    path = save_tiny(folder / "rm", model, tiny_tokenizer())
    settings = Settings(model=str(path), device="cpu", int8_gate=gate, **options)
    rewarder = assemble.load(settings, {}, None, Metrics(), read_gate(settings.int8_gate))
    try:
        item = rewarder._renderer.encode("The poem is", " about the sea")
        return rewarder.dtype, rewarder.batcher._engine.score([item]).scores[0].base_reward
    finally:
        rewarder.close()


def test_a_model_that_passes_is_served_in_int8(
    tmp_path: Path, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_gate, "MIN_AGREEMENT", 0.0)  # random weights have no order to keep
    monkeypatch.setattr(int8_gate, "MAX_REGRET", 9.0)
    dtype, reward = load(tmp_path, gate)
    assert dtype == "int8"
    # Nothing that float layers computed was left in the caches.
    assert reward == load(tmp_path, gate, prefix_cache_mb=0, memo_mb=0)[1]


def test_a_model_that_does_not_is_not_served(
    tmp_path: Path, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_gate, "MIN_AGREEMENT", 1.1)
    with pytest.raises(ModelRefused, match="int8 does not rank"):
        load(tmp_path, gate)


def test_scores_that_are_not_finite_pass_no_gate(
    tmp_path: Path, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(model: nn.Module) -> int:
        model.get_parameter("score.weight").data.fill_(torch.nan)
        return 1

    monkeypatch.setattr(int8_gate, "quantise", spoil)
    with pytest.raises(ModelRefused, match="not finite"):
        load(tmp_path, gate)


def test_vllm_and_gpus_have_their_own(gate: Path) -> None:
    for options in ({"engine": "vllm"}, {"device": "cuda"}):
        with pytest.raises(SettingsError, match="--int8-gate"):
            Settings(model="m", int8_gate=gate, **options)  # type: ignore[arg-type]
