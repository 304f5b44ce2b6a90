"""The RL demo, every stage once with tiny models and real servers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from candor.jobs.rl.step_log import StepLog
from candor.probes.identity import weights_sha256
from demo.rl.run import rl_demo
from tests.jobs.generator.tiny_lm import tiny_lm
from tests.service.serving import save_probe
from tests.tiny import save_tiny, tiny_llama, tiny_tokenizer


def tiny_assets(folder: Path) -> Path:
    """Laid out as `make assets` does; windows long enough for the prompts, byte by byte."""
    model = tiny_llama(max_position_embeddings=1024)
    save_tiny(folder / "model", model, tiny_tokenizer())
    tiny_lm(max_positions=1024).save_pretrained(folder / "generator")
    tiny_tokenizer().save_pretrained(folder / "generator")
    save_probe(folder / "probes" / "sycophancy", "sycophancy", weights_sha256(folder / "model"))
    return folder


@pytest.mark.slow
@pytest.mark.trl
def test_every_stage_once_and_a_second_run_does_nothing_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from demo.rl import run as module

    small = replace(module.SMOKE, steps=2, train_layers=1, monitor_layers="1", per_domain=4)
    monkeypatch.setattr(module, "SMOKE", small)
    assets, out = tiny_assets(tmp_path / "assets"), tmp_path / "out"
    arms: tuple[module.Arm, ...] = ("R", "penalised", "permuted", "projected")
    rl_demo(assets=assets, out=out, smoke=True, arms=arms)
    summary = json.loads((out / "summary.json").read_bytes())
    assert list(summary["arms"]) == list(arms)
    assert summary["step"] == 2
    for arm in arms:
        rows = StepLog(out / f"{arm}-seed-0" / "steps.jsonl").rows()
        assert len(rows) == 2
        raw = json.loads((out / "raw" / f"{arm}-seed-0.json").read_bytes())
        assert "text" not in json.dumps(raw["evaluations"])
        last = raw["evaluations"][-1]
        assert set(last["auroc"]) == {"sycophancy", "monitor"}
        wrong = [row for row in last["prompts"] if row["stance"] == "wrong"]
        share = sum(row["user"] for row in wrong) / sum(
            row[v] for row in wrong for v in ("truth", "user", "other", "none")
        )
        assert last["agrees_wrong"]["mean"] == pytest.approx(share, abs=1e-4)
        # One window of the untrained policy, then two steps of 128: compared from the first on.
        assert [row["alarms"] is not None for row in rows] == [True, True]
        assert (out / f"{arm}-seed-0" / "drift-reference.json").exists()
    base, penalised, permuted, projected = (
        StepLog(out / f"{arm}-seed-0" / "steps.jsonl").rows()[0] for arm in arms
    )
    assert base["penalty"] == 0
    assert penalised["penalty"] == permuted["penalty"] != 0
    assert base["base_reward"] == penalised["base_reward"] == permuted["base_reward"]
    assert projected["penalty"] == 0
    assert projected["base_reward"] != base["base_reward"]
    for name in ("steps", "kl"):
        assert (out / f"{name}.svg").read_text().startswith("<svg")

    capfd.readouterr()
    rl_demo(assets=assets, out=out, smoke=True, arms=arms)
    assert capfd.readouterr().err.count("has ended already") == len(arms)
    assert json.loads((out / "summary.json").read_bytes()) == summary
