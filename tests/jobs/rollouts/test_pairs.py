"""`candor pairs`: best and worst by the penalised reward, in the form DPO trainers read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from candor.jobs.rollouts.pairs import PairsOptions, pairs
from candor.jobs.rollouts.score import ScoreOptions, score
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import Row, write_rows
from candor.jobs.running.manifest import manifest_path
from tests.service.serving import running, tiny_app

LAMBDA = 0.5
BLUNT, SWEET, FLAT = "No.", "What a wonderful idea!", "It might."


def scored_row(key: str, *candidates: tuple[str, float, float], strength: float = LAMBDA) -> Row:
    """A row of `candor score` from (text, R, S), bound none."""
    return {
        "key": key,
        "messages": [{"role": "user", "content": key}],
        "responses": [{"text": text} for text, _, _ in candidates],
        "scores": [
            {
                "reward": r - strength * s if strength > 0 else r,
                "base_reward": r,
                "penalty": strength * s,
                "probes": {
                    "sycophancy": {
                        "score": s,
                        "bounded": s,
                        "mean": s,
                        "max": s,
                        "lambda": strength,
                    }
                },
            }
            for _, r, s in candidates
        ],
    }


SIDING = scored_row("siding", (BLUNT, 1.0, -1.0), (SWEET, 2.0, 3.0), (FLAT, 1.25, 0.0))
"""By R the sweet one is best; by R - 0.5 S it is worst."""


def written(path: Path, *rows: Row) -> Path:
    write_rows(path, rows)
    return path


def run(path: Path, **options: Any) -> list[Row]:
    out = path.with_name("pairs.jsonl")
    assert pairs(PairsOptions(scored=path, out=out, **options)) == Exit.DONE
    return [orjson.loads(line) for line in out.read_bytes().splitlines()]


def counts(path: Path) -> dict[str, int]:
    manifest = orjson.loads(manifest_path(path.with_name("pairs.jsonl")).read_bytes())
    found: dict[str, int] = manifest["counts"]
    return found


def test_best_and_worst_by_the_penalised_reward_in_trl_s_conversational_form(
    tmp_path: Path,
) -> None:
    (pair,) = run(written(tmp_path / "scored.jsonl", SIDING))
    assert pair == {
        "key": "siding",
        "prompt": [{"role": "user", "content": "siding"}],
        "chosen": [{"role": "assistant", "content": BLUNT}],
        "rejected": [{"role": "assistant", "content": SWEET}],
        "margin": 1.0,
        "of_chosen": {"reward": 1.5, "base_reward": 1.0, "scores": {"sycophancy": -1.0}},
        "of_rejected": {"reward": 0.5, "base_reward": 2.0, "scores": {"sycophancy": 3.0}},
    }


def test_another_strength_is_put_into_the_stored_parts(tmp_path: Path) -> None:
    """At 0 it is R, and the pair is turned round."""
    (pair,) = run(written(tmp_path / "scored.jsonl", SIDING), penalty=["sycophancy=0"])
    assert pair["chosen"][0]["content"] == SWEET
    assert (pair["margin"], pair["of_chosen"]["reward"]) == (1.0, 2.0)
    (closed,) = run(written(tmp_path / "scored.jsonl", SIDING), closed_form=["sycophancy=5:1"])
    assert closed["chosen"][0]["content"] == FLAT  # SWEET is flagged and costs 0.8


def test_ties_small_margins_and_lonely_candidates_make_no_pair_and_are_counted(
    tmp_path: Path,
) -> None:
    tie = scored_row("tie", (BLUNT, 1.0, 0.0), (SWEET, 2.0, 2.0))
    close = scored_row("close", (BLUNT, 1.0, 0.0), (FLAT, 1.2, 0.0))
    alone = scored_row("alone", (BLUNT, 1.0, 0.0))
    failed = {"key": "failed", "error": {"type": "too_long", "message": "cut it"}}
    path = written(tmp_path / "scored.jsonl", SIDING, tie, close, alone, failed)
    assert [pair["key"] for pair in run(path)] == ["siding", "close"]
    assert [pair["key"] for pair in run(path, min_margin=0.5)] == ["siding"]
    assert counts(path) == {
        "rows": 5,
        "done": 1,
        "failed": 1,
        "dropped_short": 1,
        "dropped_tie": 1,
        "dropped_margin": 1,
    }


def test_a_file_without_any_pair_is_refused_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tie = scored_row("tie", (BLUNT, 1.0, 0.0), (SWEET, 2.0, 2.0))
    alone = scored_row("alone", (BLUNT, 1.0, 0.0))
    path = written(tmp_path / "scored.jsonl", tie, alone)
    assert pairs(PairsOptions(scored=path, out=tmp_path / "pairs.jsonl")) == Exit.USAGE
    told = capsys.readouterr().err
    assert "scored.jsonl: no pair: of 2 scored prompts, 1 have fewer than 2" in told
    assert "1 have equal rewards only" in told
    assert not (tmp_path / "pairs.jsonl").exists()


def test_a_response_that_could_not_be_scored_is_in_no_pair(tmp_path: Path) -> None:
    row = scored_row("half", (BLUNT, 1.0, 0.0), (SWEET, 3.0, 0.0), (FLAT, 2.0, 0.0))
    row["scores"][1] = {"error": {"type": "too_long", "message": "cut it"}}
    (pair,) = run(written(tmp_path / "scored.jsonl", row))
    assert [pair["chosen"][0]["content"], pair["rejected"][0]["content"]] == [FLAT, BLUNT]


def test_the_same_rows_give_the_same_file_and_a_failure_leaves_the_old_one(
    tmp_path: Path,
) -> None:
    path = written(tmp_path / "scored.jsonl", SIDING)
    run(path)
    out = tmp_path / "pairs.jsonl"
    before = out.read_bytes()
    run(path)
    assert out.read_bytes() == before
    assert pairs(PairsOptions(scored=path, out=out, penalty=["flattery=1"])) == Exit.USAGE
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"penalty": ["sycophancy=0,1"]}, "must be NAME=NUMBER"),
        ({"penalty": ["sycophancy=1"], "kappa": ["sycophancy=1"]}, "is given two strengths"),
        ({"kappa": ["sycophancy=1"]}, "manifest"),
        ({"min_margin": -1.0}, "--min-margin -1.0"),
    ],
    ids=["sweep", "twice", "kappa without a card", "margin"],
)
def test_what_cannot_be_right_is_said(
    tmp_path: Path, options: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "scored.jsonl", SIDING)
    assert pairs(PairsOptions(scored=path, out=tmp_path / "pairs.jsonl", **options)) == Exit.USAGE
    assert said in capsys.readouterr().err
    assert not (tmp_path / "pairs.jsonl").exists()


def test_a_row_of_templated_text_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {name: value for name, value in SIDING.items() if name != "messages"}
    path = written(tmp_path / "scored.jsonl", {**row, "prompt": "text"})
    assert pairs(PairsOptions(scored=path, out=tmp_path / "pairs.jsonl")) == Exit.USAGE
    assert "key 'siding' has no messages" in capsys.readouterr().err


@pytest.mark.trl
def test_of_rows_scored_by_a_server_and_read_by_trl(tmp_path: Path) -> None:
    """kappa is that server's, and TRL sees conversational preferences."""
    from trl.data_utils import is_conversational

    rollouts = tmp_path / "rollouts.jsonl"
    texts = ["It is good.", "no", "The sea is blue, thank you."]
    messages = [{"role": "user", "content": "Is the poem good?"}]
    write_rows(
        rollouts, [{"key": "k", "messages": messages, "responses": [{"text": t} for t in texts]}]
    )
    scored = tmp_path / "scored.jsonl"
    with running(tiny_app()) as url:
        assert score(ScoreOptions(rollouts=rollouts, out=scored, reward_url=url)) == Exit.DONE
    (served,), (stronger,) = run(scored), run(scored, kappa=["sycophancy=3"])
    rewards = [one["reward"] for one in orjson.loads(scored.read_bytes())["scores"]]
    assert served["margin"] == max(rewards) - min(rewards)
    assert served["chosen"][0]["content"] == texts[rewards.index(max(rewards))]
    assert stronger["margin"] != served["margin"]
    assert is_conversational(served)
