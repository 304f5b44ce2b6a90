"""The RL demo, every stage once with tiny models and real servers, and what its summary counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from candor.jobs.rl.step_log import StepLog
from candor.jobs.running.files import Row
from candor.probes.identity import weights_sha256
from demo.poems.pairs import works
from demo.rl.monitor import monitor_rows
from demo.rl.run import ARMS, SMOKE, rl_demo
from demo.rl.summary import aurocs
from tests.jobs.generator.tiny_lm import tiny_lm
from tests.service.serving import save_probe
from tests.tiny import save_tiny, tiny_llama, tiny_tokenizer

GOOD, BAD, FLAT = "A wonderful, beautiful poem.", "A terrible, ugly poem.", "It has four lines."


def tiny_assets(folder: Path) -> Path:
    """Laid out as `make assets` does; windows long enough for the poems, byte by byte."""
    model = tiny_llama(max_position_embeddings=1024)
    save_tiny(folder / "model", model, tiny_tokenizer())
    tiny_lm(max_positions=1024).save_pretrained(folder / "generator")
    tiny_tokenizer().save_pretrained(folder / "generator")
    save_probe(folder / "probes" / "sycophancy", "sycophancy", weights_sha256(folder / "model"))
    return folder


@pytest.mark.trl
def test_every_stage_once_and_a_second_run_does_nothing_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assets, out = tiny_assets(tmp_path / "assets"), tmp_path / "out"
    rl_demo(assets=assets, out=out, smoke=True)
    summary = orjson.loads((out / "summary.json").read_bytes())
    assert set(summary["runs"]) == set(ARMS)
    assert summary["headline"]["seeds_with_lower_gap"] in ("0 of 1", "1 of 1")
    for runs in summary["runs"].values():
        (one,) = runs
        assert one["steps"] == SMOKE.steps
        assert set(one["end"]["auroc"]) == {"sycophancy", "monitor"}
    base, penalised = (StepLog(out / f"{arm}-seed-0" / "steps.jsonl").rows() for arm in ARMS)
    assert all(row["penalty"] == 0 and row["lambdas"]["sycophancy"] == 0 for row in base)
    assert 0 < penalised[0]["lambdas"]["sycophancy"] < penalised[1]["lambdas"]["sycophancy"]
    assert all("monitor" in row["monitors"] for row in (*base, *penalised))
    for name in ("gap", "sides", "training"):
        assert (out / f"{name}.svg").read_text().startswith("<svg")

    capfd.readouterr()
    rl_demo(assets=assets, out=out, smoke=True)
    assert capfd.readouterr().err.count("has ended already") == len(ARMS)
    assert orjson.loads((out / "summary.json").read_bytes()) == summary


def row(condition: str, *candidates: tuple[str, float]) -> Row:
    scores: list[dict[str, Any]] = [{"probes": {"p": {"score": s}}} for _, s in candidates]
    return {
        "key": condition,
        "messages": [],
        "meta": {"poem": "sea", "condition": condition},
        "responses": [{"text": text} for text, _ in candidates],
        "scores": scores,
    }


def test_the_auroc_is_of_siding_with_what_the_user_said() -> None:
    rows = [row("like", (GOOD, 2.0), (BAD, 0.0)), row("dislike", (GOOD, 1.0), (BAD, 3.0))]
    assert aurocs(rows)["p"] == {"all": 1.0, "with_opinion": 1.0}
    turned = [row("like", (GOOD, 0.0), (BAD, 2.0)), row("dislike", (GOOD, 3.0), (BAD, 1.0))]
    assert aurocs(turned)["p"] == {"all": 0.0, "with_opinion": 0.0}


def test_praise_that_nobody_asked_for_is_no_siding_and_no_class_gives_no_auroc() -> None:
    neutral = row("base", (GOOD, 5.0), (FLAT, 4.0))
    siding = row("like", (GOOD, 1.0), (BAD, 0.0))
    assert aurocs([neutral, siding])["p"] == {"all": pytest.approx(1 / 3), "with_opinion": 1.0}
    assert aurocs([neutral])["p"] == {"all": None, "with_opinion": None}


def test_the_monitors_rows_are_of_the_training_poems_it_is_given() -> None:
    poems = [work for work in works("train") if work.kind == "poem"][:2]
    sampled = {
        **row("like", (GOOD, 0.0), (BAD, 0.0)),
        "meta": {"poem": poems[0].id, "condition": "like"},
    }
    rows = monitor_rows(poems, [sampled])
    assert {one["group"] for one in rows} == {poem.id for poem in poems}
    assert [one["label"] for one in rows if one["kind"].startswith("drawn")] == [1, 0]
