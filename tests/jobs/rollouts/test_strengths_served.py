"""Strengths against the real server: what is recomputed from stored rows is what was served, to the
bit, under every combination, as lambda, kappa and closed form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from candor.jobs.rollouts.bon import BonOptions, bon
from candor.jobs.rollouts.score import ScoreOptions, score
from candor.jobs.rollouts.scored import ScoredGroup, group_of
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import Row, write_rows
from candor.probes.combine import Combination
from candor.scoring.rewarder import Rewarder
from candor.watch.metrics import Metrics
from tests.service.serving import load_tiny, running, tiny_app

BOTH = {"penalty": ["sycophancy=0.7"], "kappa": ["length=0.3"]}


@pytest.fixture(scope="module", params=["sum", "max", "spread"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    def load(metrics: Metrics) -> Rewarder:
        rewarder = load_tiny(metrics)
        rewarder.combination = Combination(request.param, 0.6)
        return rewarder

    with running(tiny_app(load)) as address:
        yield address


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rollouts.jsonl"
    texts = ["It is good.", "no", "The sea is blue, thank you.", "bad bad", "I think so!"]
    rows = [
        {
            "key": f"k{number}",
            "messages": [{"role": "user", "content": f"Is poem {number} good?"}],
            "responses": [{"text": f"{text} {number}"} for text in texts],
        }
        for number in range(5)
    ]
    write_rows(path, rows)
    return path


def scored(url: str, source: Path, name: str, **options: Any) -> tuple[Path, list[Row]]:
    """One request at a time: which texts share a batch moves the last bits of R and S."""
    out = source.with_name(name)
    given = {"rollouts": source, "out": out, "reward_url": url, "concurrency": 1, **options}
    assert score(ScoreOptions(retry_budget_s=5.0, **given)) == Exit.DONE
    return out, [orjson.loads(line) for line in out.read_bytes().splitlines()]


def served_rewards(rows: list[Row]) -> list[list[float]]:
    return [[one["reward"] for one in row["scores"]] for row in rows]


def offline_rewards(groups: list[ScoredGroup]) -> list[list[float]]:
    return [group.reward.tolist() for group in groups]


@pytest.mark.parametrize("options", [BOTH, {**BOTH, "kappa": None, "closed_form": ["length=2:0"]}])
def test_the_offline_reward_is_the_served_one_to_the_bit(
    url: str, source: Path, options: dict[str, Any]
) -> None:
    _, rows = scored(url, source, "scored.jsonl", **options)
    assert offline_rewards([group_of(row) for row in rows]) == served_rewards(rows)
    kinds = {row["reward_model"]["combine"]["kind"] for row in rows}
    if kinds != {"sum"}:  # the control: combined otherwise it is another number
        for row in rows:
            row["reward_model"]["combine"] = {"kind": "sum"}
        assert offline_rewards([group_of(row) for row in rows]) != served_rewards(rows)


def test_kappa_offline_is_the_servers_kappa_and_so_is_the_closed_form(
    url: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file scored at the defaults, asked what other strengths would do, against asking the
    server."""
    plain, _ = scored(url, source, "plain.jsonl")
    report = source.with_name("bon.json")
    forms = ["sycophancy=2:0.5", "sycophancy=2"]  # the second at the card's median
    code = bon(
        BonOptions(
            scored=plain, out=report, n="1,5", kappa_sweep=["sycophancy=0,0.4"], closed_form=forms
        )
    )
    assert code == Exit.DONE
    told = json.loads(report.read_bytes())
    _, strong = told["kappa_sweep"]["sycophancy"]
    assert (strong["kappa"], strong["lambda"]) == (0.4, 0.4 * 2.0 / 0.25)
    asked, _ = scored(url, source, "kappa.jsonl", kappa=["sycophancy=0.4"])
    assert bon(BonOptions(scored=asked, out=report, n="1,5")) == Exit.DONE
    assert json.loads(report.read_bytes())["chosen_by"]["reward"] == strong["best_of_n"]
    assert [one["threshold"] for one in told["closed_form"]["sycophancy"]] == [0.5, 0.0]
    for form, entry in zip(forms, told["closed_form"]["sycophancy"], strict=True):
        asked, rows = scored(url, source, "closed.jsonl", closed_form=[form])
        assert rows[0]["reward_model"]["penalties"]["sycophancy"].keys() == {"closed_form"}
        lambdas = [row["scores"][0]["probes"]["sycophancy"]["lambda"] for row in rows]
        assert entry["mean_lambda"] == pytest.approx(sum(lambdas) / len(lambdas))
        assert bon(BonOptions(scored=asked, out=report, n="1,5")) == Exit.DONE
        assert json.loads(report.read_bytes())["chosen_by"]["reward"] == entry["best_of_n"]
    capsys.readouterr()
    # The closed form's rows hold flags, and a lambda times a flag is not what a sweep says it is.
    assert (
        bon(BonOptions(scored=asked, out=report, n="1", lambda_sweep=["sycophancy=1"]))
        == Exit.USAGE
    )
    assert "score them again without --closed-form" in capsys.readouterr().err
    assert bon(BonOptions(scored=asked, out=report, n="1", lambda_sweep=["length=1"])) == Exit.DONE


def test_kappa_needs_the_manifest_of_this_very_file(
    url: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, rows = scored(url, source, "plain.jsonl")
    manifest = source.with_name("plain.jsonl.manifest.json")
    report = source.with_name("bon.json")
    options: dict[str, Any] = {"scored": plain, "out": report, "n": "1"}
    assert bon(BonOptions(**options, kappa_sweep=["unseen=1"])) == Exit.USAGE  # a monitor
    assert "scored probes are: sycophancy, length" in capsys.readouterr().err
    write_rows(plain, rows[1:])
    assert bon(BonOptions(**options, kappa_sweep=["length=1"])) == Exit.USAGE
    assert "is the manifest of another file" in capsys.readouterr().err
    assert (
        bon(BonOptions(**options, lambda_sweep=["length=1"], closed_form=["length=1:0"]))
        == Exit.DONE
    )
    manifest.write_text("{}")
    assert bon(BonOptions(**options, closed_form=["length=1"])) == Exit.USAGE
    assert "does not hold the card of probe 'length'" in capsys.readouterr().err
    manifest.unlink()
    assert bon(BonOptions(**options, kappa_sweep=["length=1"])) == Exit.USAGE
    assert "manifest.json: is missing" in capsys.readouterr().err


def test_a_card_from_before_has_its_kappa_of_then_and_it_is_said(
    url: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, _ = scored(url, source, "plain.jsonl")
    path, report = source.with_name("plain.jsonl.manifest.json"), source.with_name("bon.json")
    options: dict[str, Any] = {
        "scored": plain,
        "out": report,
        "n": "1",
        "kappa_sweep": ["length=1"],
    }
    lambdas, warned = [], []
    for new in (True, False):
        if not new:
            manifest = json.loads(path.read_bytes())
            for probe in manifest["server"]["probes"]["probes"]:
                del probe["card"]["calibration"]["std_bounded_S"]
            path.write_text(json.dumps(manifest))
        assert bon(BonOptions(**options)) == Exit.DONE
        lambdas.append(json.loads(report.read_bytes())["kappa_sweep"]["length"][0]["lambda"])
        warned.append("length: the card that served" in capsys.readouterr().err)
    assert warned == [False, True]
    assert lambdas == [2.0 / 0.25, 2.0 / 0.5]


def test_a_reward_that_its_parts_do_not_make_is_refused(
    url: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, rows = scored(url, source, "plain.jsonl")
    rows[2]["scores"][1]["probes"]["sycophancy"]["bounded"] += 1.0
    write_rows(plain, rows)
    assert bon(BonOptions(scored=plain, out=source.with_name("bon.json"), n="1")) == Exit.USAGE
    assert "key 'k2': a reward is not what its own parts make" in capsys.readouterr().err


def test_a_preference_pair_is_scored_as_its_two_texts(url: str, source: Path) -> None:
    _, rows = scored(url, source, "plain.jsonl")
    pairs = [
        {
            "key": row["key"],
            "messages": row["messages"],
            "chosen": row["responses"][0]["text"],
            "rejected": row["responses"][3]["text"],
        }
        for row in rows
    ]
    write_rows(source, [*pairs, {**pairs[0], "key": "wrong", "chosen": None}])
    out = source.with_name("pairs.jsonl")
    code = score(ScoreOptions(rollouts=source, out=out, reward_url=url, retry_budget_s=5.0))
    assert code == Exit.DONE
    *found, wrong = [orjson.loads(line) for line in out.read_bytes().splitlines()]
    assert wrong["scores"][0]["error"]["type"] == "invalid_row"  # alone: the other text is scored
    assert wrong["scores"][1]["reward"] == found[0]["scores"][1]["reward"]
    for pair, row, whole in zip(pairs, found, rows, strict=True):
        assert row["responses"] == [
            {"text": pair["chosen"], "chosen": True},
            {"text": pair["rejected"], "chosen": False},
        ]
        for one, place in zip(row["scores"], (0, 3), strict=True):
            expected = whole["scores"][place]["base_reward"]
            assert one["base_reward"] == pytest.approx(expected, abs=1e-5)
