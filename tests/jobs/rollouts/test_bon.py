"""`candor bon`: exact best-of-N expectations, lambda sweeps from stored scores, intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from candor.jobs.rollouts.audit_tilt import TiltOptions, audit_tilt
from candor.jobs.rollouts.bon import BonOptions, bon
from candor.jobs.rollouts.pairs import PairsOptions, pairs
from candor.jobs.rollouts.scored import group_of
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import write_rows
from tests.client.replies import numbers
from tests.jobs.enumeration import by_enumeration


def scored_rows(num_rows: int, num_responses: int = 6) -> list[dict[str, Any]]:
    rows = []
    for row in range(num_rows):
        texts = [f"answer {index} to poem {row}" for index in range(num_responses)]
        rows.append(
            {
                "key": f"poem-{row}",
                "messages": [{"role": "user", "content": f"poem {row}?"}],
                "meta": {"poem": row},
                "responses": [{"text": text, "finish_reason": "stop"} for text in texts],
                "scores": [numbers(text, 0.5) for text in texts],
            }
        )
    return rows


def run(folder: Path, rows: list[dict[str, Any]], **options: Any) -> tuple[int, dict[str, Any]]:
    scored, out = folder / "scored.jsonl", folder / "bon.json"
    write_rows(scored, rows)
    code = bon(BonOptions(scored=scored, out=out, **{"n": "1,2,6", **options}))
    return code, json.loads(out.read_bytes()) if out.exists() else {}


def test_the_report_holds_the_means_that_enumeration_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = scored_rows(5)
    code, report = run(tmp_path, rows)
    assert code == Exit.DONE
    assert (report["num_prompts"], report["num_failed_rows"], report["n"]) == (5, 0, [1, 2, 6])
    for rule in ("base_reward", "reward"):
        for k, n in enumerate([1, 2, 6]):
            entry = report["chosen_by"][rule][k]
            assert entry["n"] == n
            for read, told in (
                (lambda one: one["base_reward"], entry["base_reward"]),
                (lambda one: one["reward"], entry["reward"]),
                (lambda one: one["probes"]["sycophancy"]["score"], entry["scores"]["sycophancy"]),
            ):
                means = [
                    by_enumeration([one[rule] for one in row["scores"]], n)
                    @ [read(one) for one in row["scores"]]
                    for row in rows
                ]
                assert told["mean"] == pytest.approx(np.mean(means), abs=1e-9)
                assert told["low"] <= told["mean"] <= told["high"]
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["chosen_by_reward"] == report["chosen_by"]["reward"][-1]
    manifest = json.loads((tmp_path / "bon.json.manifest.json").read_bytes())
    nothing = {"failed": 0, "short": 0, "failed_responses": 0}
    assert manifest["counts"] == {"rows": 5, "done": 5, **nothing}


def test_a_random_pick_is_the_same_under_both_rules_and_the_best_is_not(tmp_path: Path) -> None:
    _, report = run(tmp_path, scored_rows(20))
    base, penalised = report["chosen_by"]["base_reward"], report["chosen_by"]["reward"]
    assert base[0] == penalised[0]
    assert base[2]["base_reward"]["mean"] > penalised[2]["base_reward"]["mean"]
    assert base[2]["reward"]["mean"] < penalised[2]["reward"]["mean"]


def test_the_sweep_at_the_scored_lambda_is_the_report_itself_and_at_zero_the_base_rule(
    tmp_path: Path,
) -> None:
    _, report = run(tmp_path, scored_rows(20), lambda_sweep=["sycophancy=0,0.5,4"])
    none, as_scored, strong = report["lambda_sweep"]["sycophancy"]
    assert [none["lambda"], as_scored["lambda"], strong["lambda"]] == [0, 0.5, 4]
    assert as_scored["best_of_n"] == report["chosen_by"]["reward"]
    for at_zero, base in zip(none["best_of_n"], report["chosen_by"]["base_reward"], strict=True):
        assert at_zero["base_reward"] == base["base_reward"] == at_zero["reward"]
        assert at_zero["scores"] == base["scores"]
    by_strength = [
        entry["best_of_n"][2]["scores"]["sycophancy"]["mean"] for entry in (none, as_scored, strong)
    ]
    assert by_strength == sorted(by_strength, reverse=True)
    assert by_strength[2] < by_strength[0]


def test_the_reward_is_rebuilt_to_the_bit_and_from_the_bounded_score() -> None:
    row = scored_rows(1)[0]
    for index, one in enumerate(row["scores"]):
        one["probes"]["flattery"] = {
            "score": 9.0, "bounded": 0.1 * index, "mean": 0.0, "max": 0.0, "lambda": 0.7
        }  # fmt: skip
        readings = one["probes"].values()
        one["penalty"] = sum(reading["lambda"] * reading["bounded"] for reading in readings)
        one["reward"] = one["base_reward"] - one["penalty"]
    group = group_of(row)
    assert group.reward.tolist() == [one["reward"] for one in row["scores"]]
    without = group.with_lambda("flattery", 0.0)
    assert without.reward.tolist() == [
        one["base_reward"] - 0.5 * one["probes"]["sycophancy"]["bounded"] for one in row["scores"]
    ]


def test_the_chosen_file_holds_both_rules_picks_at_the_largest_n(tmp_path: Path) -> None:
    rows = scored_rows(20)
    run(tmp_path, rows, n="1,4")
    lines = (tmp_path / "bon.json.chosen.jsonl").read_bytes().splitlines()
    chosen = [orjson.loads(line) for line in lines]
    for row, picked in zip(rows, chosen, strict=True):
        assert (picked["key"], picked["meta"], picked["n"]) == (row["key"], row["meta"], 4)
        for rule in ("base_reward", "reward"):
            rewards = [one[rule] for one in row["scores"][:4]]
            pick = picked["chosen_by"][rule]
            assert pick[rule] == max(rewards)
            assert pick["text"] == row["responses"][pick["index"]]["text"]
    assert any(p["chosen_by"]["base_reward"] != p["chosen_by"]["reward"] for p in chosen)


def fail(row: dict[str, Any], *places: int) -> None:
    for place in places:
        row["scores"][place] = {"error": {"type": "empty_response", "message": "x"}}


def test_failed_responses_are_no_candidates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, without = scored_rows(4), scored_rows(4)
    run(tmp_path, without, n="1,4")
    assert "left out" not in capsys.readouterr().err
    fail(rows[1], 0, 3)
    for name in ("responses", "scores"):
        without[1][name] = [one for i, one in enumerate(without[1][name]) if i not in (0, 3)]
    _, expected_report = run(tmp_path, without, n="1,4")
    code, report = run(tmp_path, rows, n="1,4", lambda_sweep=["sycophancy=0,0.5"])
    assert code == Exit.DONE
    assert report["chosen_by"] == expected_report["chosen_by"]
    assert (report["num_prompts"], report["num_short_rows"]) == (4, 0)
    assert (report["num_failed_responses"], expected_report["num_failed_responses"]) == (2, 0)
    told = capsys.readouterr()
    assert "2 responses that could not be scored" in told.err
    assert json.loads(told.out.splitlines()[-1])["failed_responses"] == 2
    lines = (tmp_path / "bon.json.chosen.jsonl").read_bytes().splitlines()
    for pick in orjson.loads(lines[1])["chosen_by"].values():
        assert pick["index"] not in (0, 3)
        assert pick["text"] == rows[1]["responses"][pick["index"]]["text"]
        assert pick["base_reward"] == rows[1]["scores"][pick["index"]]["base_reward"]


def test_a_row_left_with_fewer_candidates_than_the_largest_n_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = scored_rows(4)
    _, without = run(tmp_path, [rows[0], *rows[2:]], n="1,6")
    fail(rows[1], 5)
    code, report = run(tmp_path, rows, n="1,6")
    assert code == Exit.DONE
    assert report["chosen_by"] == without["chosen_by"]
    assert (report["num_prompts"], report["num_short_rows"]) == (3, 1)
    assert report["num_failed_responses"] == 1
    assert "1 rows with fewer than 6 scored responses" in capsys.readouterr().err
    chosen = (tmp_path / "bon.json.chosen.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["key"] for line in chosen] == ["poem-0", "poem-2", "poem-3"]
    _, smaller = run(tmp_path, rows, n="1,5")
    assert (smaller["num_prompts"], smaller["num_short_rows"]) == (4, 0)


def test_n_is_lowered_to_what_is_there_and_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = scored_rows(3)
    code, wanted = run(tmp_path, rows, n="1,2,4,6")
    assert "is lowered to" not in capsys.readouterr().err  # the control
    assert run(tmp_path, rows, n="1,2,4,8,16") == (code, wanted)  # 8 and 16 are 6
    assert wanted["n"] == [1, 2, 4, 6]
    told = capsys.readouterr().err
    assert "scored.jsonl: N = 16 is lowered to 6: 3 of 3 rows have 6 responses\n" in told
    for name in ("responses", "scores"):
        rows[1][name] = rows[1][name][:4]
    assert run(tmp_path, rows, n="1,6")[1]["n"] == [1, 4]
    assert "N = 6 is lowered to 4: 1 of 3 rows have 4 responses\n" in capsys.readouterr().err


def test_where_failures_leave_every_row_short_n_is_lowered_to_the_most_that_a_row_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = scored_rows(2)
    fail(rows[0], 0)
    fail(rows[1], *range(6))
    code, report = run(tmp_path, rows, n="6")
    assert (code, report["n"], report["num_prompts"]) == (Exit.DONE, [5], 1)
    told = capsys.readouterr().err
    assert "N = 6 is lowered to 5: no row has more than 5 scored responses\n" in told
    fail(rows[0], *range(1, 6))
    (tmp_path / "bon.json").unlink()
    assert run(tmp_path, rows, n="6") == (Exit.USAGE, {})
    assert "no response of any row is scored" in capsys.readouterr().err


def test_failed_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = scored_rows(4)
    _, whole = run(tmp_path, rows[:3])
    del rows[3]["scores"]
    rows[3]["error"] = {"type": "too_long", "message": "x"}
    _, report = run(tmp_path, rows)
    assert report["num_failed_rows"] == 1
    assert report["chosen_by"] == whole["chosen_by"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": "0,2"}, "--n 0,2: "),
        ({"n": "two"}, "--n two: "),
        ({"lambda_sweep": ["flattery=1"]}, "scored probes are: sycophancy"),
        ({"lambda_sweep": ["sycophancy=-1"]}, "--lambda-sweep sycophancy=-1: "),
        ({"lambda_sweep": ["sycophancy"]}, "--lambda-sweep sycophancy: "),
    ],
)
def test_wrong_arguments_are_exit_2_with_the_flag(
    tmp_path: Path, options: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = run(tmp_path, scored_rows(3), **options)
    assert (code, report) == (Exit.USAGE, {})
    assert message in capsys.readouterr().err


def test_rows_without_any_scores_or_with_other_probes_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unscored = [{"key": "a", "error": {}}]
    assert run(tmp_path, unscored)[0] == Exit.USAGE
    assert "no row has scores" in capsys.readouterr().err
    mixed = scored_rows(2)
    for one in mixed[1]["scores"]:
        one |= {"probes": {}, "penalty": 0.0, "reward": one["base_reward"]}
    assert run(tmp_path, mixed)[0] == Exit.USAGE
    assert "key 'poem-1' has other probes" in capsys.readouterr().err
    broken = scored_rows(2)
    del broken[1]["scores"][0]["base_reward"]
    assert run(tmp_path, broken)[0] == Exit.USAGE
    assert "key 'poem-1': scores[0].base_reward is missing" in capsys.readouterr().err


def spoilt(field: str, value: Any) -> list[dict[str, Any]]:
    """Rows with one wrong value in the numbers of one response."""
    rows = [{**row, "reward_model": {"id": "tiny", "revision": "ab"}} for row in scored_rows(3)]
    target = rows[1]["scores"][2]
    *path, last = field.split(".")
    for name in path:
        target = target[name]
    target[last] = value
    return rows


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "1.5", True, [1.0]])
@pytest.mark.parametrize(
    "field", ["base_reward", "reward", "probes.sycophancy.score", "probes.sycophancy.lambda"]
)
def test_a_used_number_that_is_none_is_refused_by_row_and_field(
    tmp_path: Path, field: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scored.jsonl"
    lines = "".join(json.dumps(row) + "\n" for row in spoilt(field, value))  # NaN stays NaN
    for job in (
        lambda out: bon(BonOptions(scored=path, out=out, n="1")),
        lambda out: pairs(PairsOptions(scored=path, out=out)),
        lambda out: audit_tilt(TiltOptions(scored=[path], out=out, flag="contains:1")),
    ):
        path.write_text(lines)
        assert job(tmp_path / "out.json") == Exit.USAGE
        told = capsys.readouterr().err
        assert f"scored.jsonl: key 'poem-1': scores[2].{field} is " in told
        assert "not a finite number" in told
        assert not (tmp_path / "out.json").exists()


def test_nan_in_a_column_that_is_not_used_changes_nothing(tmp_path: Path) -> None:
    rows = scored_rows(3)
    expected = run(tmp_path, rows)
    rows[1] |= {"weight": float("nan"), "meta": {"poem": 1, "share": float("inf")}}
    path = tmp_path / "scored.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "again.json"
    assert bon(BonOptions(scored=path, out=out, n="1,2,6")) == Exit.DONE
    assert json.loads(out.read_bytes()) == expected[1]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"scores": 3}, "'scores' is not a list"),
        ({"scores": [3] * 6}, "scores[0] is not an object"),
        ({"responses": ["bare"] * 6}, "responses[0] is not an object"),
        ({"responses": []}, "6 scores of 0 responses"),
    ],
)
def test_a_row_of_another_shape_is_refused_by_its_key(
    tmp_path: Path, entry: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = scored_rows(2)
    rows[1] |= entry
    assert run(tmp_path, rows)[0] == Exit.USAGE
    assert f"key 'poem-1': {message}" in capsys.readouterr().err


def test_numbers_that_say_nothing_are_said_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, scored_rows(3))
    source = tmp_path / "scored.jsonl"
    told = capsys.readouterr().err
    assert told == f"candor: {source}: 3 rows (Candor rows)\n"  # the control: nothing else
    run(tmp_path, scored_rows(1))
    assert "scored.jsonl: there is one prompt only" in capsys.readouterr().err
    constant = scored_rows(3)
    for row in constant:
        row["responses"] = [row["responses"][0]] * 6
        row["scores"] = [row["scores"][0]] * 6
    code, report = run(tmp_path, constant)
    assert code == Exit.DONE
    assert report["chosen_by"]["base_reward"][-1] | {"n": 1} == report["chosen_by"]["reward"][0]
    assert "R does not vary among the responses to any of 3 prompts" in capsys.readouterr().err
    run(tmp_path, scored_rows(3, 1), n="1")
    assert "R does not vary" not in capsys.readouterr().err  # one response: nothing to vary
