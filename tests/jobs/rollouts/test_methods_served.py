"""Rows scored by servers of each method: the rows say it, the offline reward is the served one to
the bit, and what other strengths would do is right or refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from candor.flags import UsageError
from candor.jobs.probe.candidates import read_scores
from candor.jobs.rl.strength import full_strengths
from candor.jobs.rollouts.bon import BonOptions, bon
from candor.jobs.rollouts.score import ScoreOptions, score
from candor.jobs.rollouts.scored import group_of, one_model
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import Row, write_rows
from candor.methods import Use
from candor.scoring.served import ServedProbe
from tests.service.serving import load_tiny, loaded_probe, running, tiny_app

USES = {
    "subtract": Use(),
    "project": Use("project"),
    "screen": Use("screen", 0.1),
    "advantage": Use("advantage"),
}


@contextmanager
def serving(use: Use) -> Iterator[str]:
    probes = {
        "sycophancy": ServedProbe(
            loaded_probe("sycophancy", seed=1), 0.0 if use.method == "project" else 0.5, use=use
        ),
        "length": ServedProbe(loaded_probe("length", seed=2, layer=2), 0.25),
    }
    with running(tiny_app(lambda metrics: load_tiny(metrics, served=probes))) as url:
        yield url


def scored(url: str, source: Path, name: str, **options: Any) -> tuple[Path, list[Row]]:
    """One request at a time: which texts share a batch moves the last bits of R and S."""
    out = source.with_name(name)
    given = {"rollouts": source, "out": out, "reward_url": url, "concurrency": 1, **options}
    assert score(ScoreOptions(retry_budget_s=5.0, **given)) == Exit.DONE
    return out, [orjson.loads(line) for line in out.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[Row]]]:
    """The same responses scored by a server of each method, and subtracted at other strengths."""
    source = tmp_path_factory.mktemp("methods") / "rollouts.jsonl"
    texts = ["It is good.", "no", "The sea is blue, thank you.", "bad bad", "I think so!"]
    write_rows(
        source,
        [
            {
                "key": f"k{number}",
                "messages": [{"role": "user", "content": f"Is poem {number} good?"}],
                "responses": [{"text": f"{text} {number}"} for text in texts],
            }
            for number in range(5)
        ],
    )
    found = {}
    for method, use in USES.items():
        with serving(use) as url:
            found[method] = scored(url, source, f"{method}.jsonl")
            for name in ("sycophancy", "length"):
                if not (method == "project" and name == "sycophancy"):
                    asked = f"{method}-{name}"
                    found[asked] = scored(url, source, f"{asked}.jsonl", penalty=[f"{name}=2"])
    return found


Rows = dict[str, tuple[Path, list[Row]]]


@pytest.mark.parametrize("method", USES)
def test_rows_say_the_method_and_make_their_rewards_to_the_bit(rows: Rows, method: str) -> None:
    path, found = rows[method]
    for row in found:
        assert row["reward_model"]["methods"] == {"sycophancy": method, "length": "subtract"}
        assert group_of(row).reward.tolist() == [one["reward"] for one in row["scores"]]
        for one in row["scores"]:
            assert ("screened" in one and one["screened"] is not None) == (method == "screen")
            apart = one.get("advantage_penalty")
            assert (apart is not None) == (method == "advantage")
    report = path.with_name("bon.json")
    assert bon(BonOptions(scored=path, out=report, n="1,5")) == Exit.DONE
    assert json.loads(report.read_bytes())["methods"]["sycophancy"] == method


def rewards(found: list[Row]) -> list[list[float]]:
    return [[one["reward"] for one in row["scores"]] for row in found]


def test_the_four_methods_give_four_rewards(rows: Rows) -> None:
    seen = {method: rewards(rows[method][1]) for method in USES}
    assert all(seen[a] != seen[b] for a in USES for b in USES if a < b)


def swept(path: Path, name: str, capsys: Any) -> tuple[Any, str]:
    """The report of a sweep at lambda 2, and what was said on stderr."""
    report = path.with_name("sweep.json")
    capsys.readouterr()
    code = bon(BonOptions(scored=path, out=report, n="1,5", lambda_sweep=[f"{name}=2"]))
    said = capsys.readouterr().err
    if code == Exit.USAGE:
        return None, said
    return json.loads(report.read_bytes())["lambda_sweep"][name][0]["best_of_n"], said


def served_curve(path: Path) -> Any:
    report = path.with_name("served.json")
    assert bon(BonOptions(scored=path, out=report, n="1,5")) == Exit.DONE
    return json.loads(report.read_bytes())["chosen_by"]["reward"]


@pytest.mark.parametrize("method", USES)
def test_another_probes_sweep_is_what_that_server_gives(
    rows: Rows, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _ = swept(rows[method][0], "length", capsys)
    assert found == served_curve(rows[f"{method}-length"][0])
    assert found != served_curve(rows[method][0])  # the control


def test_a_sweep_of_the_probe_itself_is_right_or_refused(
    rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = served_curve(rows["subtract-sycophancy"][0])
    assert swept(rows["subtract"][0], "sycophancy", capsys)[0] == expected
    # R and bound(S) are all there, so a sweep is that of a penalty in the reward.
    assert swept(rows["advantage"][0], "sycophancy", capsys)[0] == expected
    for method in ("project", "screen"):
        found, said = swept(rows[method][0], "sycophancy", capsys)
        assert found is None
        assert f"--method {method}" in said
        assert "server that subtracts" in said


@pytest.mark.parametrize("method", ["project", "screen", "advantage"])
def test_the_closed_form_of_a_probe_is_right_or_refused(
    rows: Rows, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def closed(of: str) -> tuple[Exit, Any]:
        report = rows[of][0].with_name("closed.json")
        options = {"scored": rows[of][0], "out": report, "n": "1,5"}
        code = bon(BonOptions(**options, closed_form=["sycophancy=2:0.5"]))
        found = json.loads(report.read_bytes()) if code == Exit.DONE else None
        return code, found and found["closed_form"]["sycophancy"][0]["best_of_n"]

    code, found = closed(method)
    if method == "project":
        assert code == Exit.USAGE
        assert "--method project" in capsys.readouterr().err
    else:
        assert found == closed("subtract")[1]


def test_rows_of_two_methods_are_never_one_file(
    rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = tmp_path / "mixed.jsonl"
    parts = [rows["subtract"][1][0], rows["project"][1][1]]
    write_rows(mixed, parts)
    assert bon(BonOptions(scored=mixed, out=tmp_path / "out.json", n="1")) == Exit.USAGE
    assert "was scored by other methods" in capsys.readouterr().err

    with pytest.raises(UsageError, match="another method than earlier rows"):
        one_model(mixed, parts)
    # The control: one method, and rows from before there were methods.
    old = [dict(row, reward_model={**row["reward_model"]}) for row in rows["subtract"][1]]
    for row in old:
        del row["reward_model"]["methods"]
    write_rows(mixed, old)
    assert bon(BonOptions(scored=mixed, out=tmp_path / "out.json", n="1")) == Exit.DONE


def test_a_server_of_another_method_does_the_rows_again(rows: Rows, tmp_path: Path) -> None:
    source = tmp_path / "rollouts.jsonl"
    write_rows(
        source,
        [{k: row[k] for k in ("key", "messages", "responses")} for row in rows["subtract"][1]],
    )
    for method in ("subtract", "advantage"):
        with serving(USES[method]) as url:
            _, found = scored(url, source, "out.jsonl")
        assert {row["reward_model"]["methods"]["sycophancy"] for row in found} == {method}


def test_calibration_is_not_read_from_a_projected_model(rows: Rows) -> None:
    card = loaded_probe("sycophancy", seed=1).card
    for method in USES:
        if method == "project":
            with pytest.raises(UsageError, match="--method project, so R is that of a projected"):
                read_scores(rows[method][0], card)
        else:
            assert len(read_scores(rows[method][0], card).rewards) == 25


def test_rl_trains_on_a_penalty_that_is_in_the_reward() -> None:
    def probes(method: str) -> list[dict[str, Any]]:
        return [
            {"name": "a", "method": method, "lambda": 0.5},
            {"name": "b", "method": "subtract", "lambda": 1.0},
        ]

    subtracted = {"a": {"lambda": 0.5}, "b": {"lambda": 1.0}}
    assert full_strengths({}, probes("subtract")) == subtracted
    assert full_strengths({}, probes("screen")) == subtracted
    assert full_strengths({}, probes("project")) == {"b": {"lambda": 1.0}}
    with pytest.raises(UsageError, match="'a' is served with --method project: it has no strength"):
        full_strengths({"a": {"lambda": 1.0}}, probes("project"))
    with pytest.raises(UsageError, match="this run would train without a penalty"):
        full_strengths({}, probes("advantage"))


def test_rows_of_two_versions_of_a_probe_are_never_one_file(
    rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = tmp_path / "mixed.jsonl"
    first, second, *_ = copy.deepcopy(rows["subtract"][1])
    assert first["reward_model"]["probes_sha256"] == second["reward_model"]["probes_sha256"]
    write_rows(mixed, [first, second])
    options = BonOptions(scored=mixed, out=tmp_path / "out.json", n="1")
    assert bon(options) == Exit.DONE
    second["reward_model"]["probes_sha256"] = "00" * 32
    write_rows(mixed, [first, second])
    assert bon(options) == Exit.USAGE
    assert "a probe was replaced in between" in capsys.readouterr().err
