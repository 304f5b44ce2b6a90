"""`candor audit tilt`: a planted tilt is found with its size, where there is none the interval
holds 0, and quality that carries the flag shows overall but not within the chosen."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from candor.jobs.rollouts.audit_tilt import TiltOptions, audit_tilt
from candor.jobs.rollouts.response_flags import parse_response_flag
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import Row, write_rows
from tests.client.replies import REVISION

PHRASE = "Quite so."


def pairs(
    num: int, *, bonus: float, seed: int = 0, key: str = "pair", revision: str = REVISION
) -> list[Row]:
    """Scored preference pairs: chosen R is 1 more, and the phrase, in 80 % of the chosen and 20 %
    of the rejected, is worth `bonus`."""
    rng = random.Random(seed)
    rows = []
    for number in range(num):
        responses, scores = [], []
        for chosen in (True, False):
            flag = rng.random() < (0.8 if chosen else 0.2)
            r = rng.gauss(0, 0.5) + chosen + bonus * flag
            responses.append(
                {"text": f"{PHRASE if flag else ''} {chosen}", "chosen": chosen, "agrees": flag}
            )
            reading = {"score": 2.0 * flag, "bounded": 1.0, "mean": 0.0, "max": 0.0, "lambda": 0.0}
            scores.append(
                {"reward": r, "base_reward": r, "penalty": 0.0, "probes": {"agreement": reading}}
            )
        rows.append(
            {
                "key": f"{key}-{number}",
                "messages": [{"role": "user", "content": f"{key} {number}?"}],
                "meta": {"source": ["even", "odd"][number % 2]},
                "responses": responses,
                "scores": scores,
                "reward_model": {"id": "tiny", "revision": revision},
            }
        )
    return rows


def run(folder: Path, *files: list[Row], **options: Any) -> tuple[int, dict[str, Any]]:
    paths = [folder / f"scored{number}.jsonl" for number in range(len(files))]
    for path, rows in zip(paths, files, strict=True):
        write_rows(path, rows)
    out = folder / "tilt.json"
    code = audit_tilt(
        TiltOptions(scored=paths, out=out, **{"flag": f"contains:{PHRASE}", **options})
    )
    return code, json.loads(out.read_bytes()) if code == Exit.DONE else {}


def test_a_planted_tilt_is_found_overall_and_within_both_sides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = run(tmp_path, pairs(200, bonus=2.0))
    assert code == Exit.DONE
    found = report["all"]
    assert report["sets"] == {str(tmp_path / "scored0.jsonl"): found}
    for side in ("chosen", "rejected"):
        gap = found[side]["gap"]
        assert gap["low"] < 2.0 < gap["high"]
        assert 1.6 < gap["mean"] < 2.4
        assert found[side]["within_prompts"]["num_prompts"] == 0  # one response of each side
        assert found[side]["within_prompts"]["gap"] is None
    overall = found["overall"]
    assert (overall["num_prompts"], overall["num_responses"]) == (200, 400)
    assert overall["within_prompts"]["share_tilted"]["mean"] > 0.9
    # A pair has one of each class: lambda*(x) is its difference, whatever beta.
    assert overall["within_prompts"]["lambda"]["mean"] > 2.0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["all"]["gap"]["chosen"] == found["chosen"]["gap"]
    assert last["all"]["share_tilted"] == overall["within_prompts"]["share_tilted"]
    manifest = json.loads((tmp_path / "tilt.json.manifest.json").read_bytes())
    assert manifest["command"] == "audit tilt"
    assert manifest["counts"] == {"responses": 400, "left_out": 0}


def test_where_only_quality_pays_the_tilt_is_overall_and_not_within_a_side(tmp_path: Path) -> None:
    """The control: R follows quality alone, and the better responses hold the phrase more often."""
    _, report = run(tmp_path, pairs(200, bonus=0.0))
    assert report["all"]["overall"]["gap"]["low"] > 0.3
    for side in ("chosen", "rejected"):
        gap = report["all"][side]["gap"]
        assert gap["low"] < 0 < gap["high"]


def test_the_three_forms_of_a_flag_agree_where_they_mean_the_same(tmp_path: Path) -> None:
    rows = pairs(40, bonus=1.0)
    reports = [
        run(tmp_path, rows, flag=flag)[1]["all"]
        for flag in ("contains:quite SO.", "probe:agreement>1.5", "field:agrees")
    ]
    assert reports[0] == reports[1] == reports[2]


def test_files_and_values_of_a_field_are_data_sets(tmp_path: Path) -> None:
    biased, fair = pairs(80, bonus=2.0, key="a"), pairs(80, bonus=0.0, seed=1, key="b")
    _, report = run(tmp_path, biased, fair)
    first, second = report["sets"].values()
    assert first["chosen"]["gap"]["low"] > 1
    assert second["chosen"]["gap"]["low"] < 0 < second["chosen"]["gap"]["high"]
    assert report["all"]["overall"]["num_prompts"] == 160
    for row in biased:
        row["meta"]["source"] = "biased"
    _, by_field = run(tmp_path, biased, fair, by="meta.source")
    assert list(by_field["sets"]) == ["biased", "even", "odd"]
    assert by_field["sets"]["biased"] == first
    assert by_field["all"] == report["all"]


def test_without_pairs_there_is_no_chosen_and_failures_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pairs(20, bonus=1.0)
    for row in rows:
        for response in row["responses"]:
            del response["chosen"]
    rows[3]["scores"][0] = {"error": {"type": "too_long", "message": "x"}}
    rows[4] = {"key": "failed", "error": {"type": "too_long", "message": "x"}}
    code, report = run(tmp_path, rows)
    assert code == Exit.DONE
    assert report["all"].keys() == {"std_R", "overall"}
    assert (report["num_left_out"], report["all"]["overall"]["num_responses"]) == (2, 37)
    assert "left out: 2 rows or responses" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flag": "contains:"}, "--flag contains:: must be contains:TEXT"),
        ({"flag": "regex:x"}, "--flag regex:x: must be"),
        ({"flag": "probe:agreement"}, "--flag probe:agreement: must be"),
        ({"flag": "probe:agreement>much"}, "--flag probe:agreement>much: must be"),
        ({"flag": "probe:flattery>0"}, "response 0 has no score of probe 'flattery' (it has: agr"),
        ({"flag": "field:absent"}, "key 'pair-0': response 0 has no true or false under 'absent'"),
        ({"flag": "field:text"}, "response 0 has no true or false under 'text'"),
        ({"flag": "contains:nowhere"}, "0 of 10 responses have it"),
        ({"flag": "probe:agreement>-1"}, "10 of 10 responses have it"),
        ({"beta": 0.0}, "--beta 0.0: must be a number above 0"),
        ({"by": "meta.kind"}, "key 'pair-0' has no text or number under 'meta.kind'"),
        ({"by": "meta"}, "key 'pair-0' has no text or number under 'meta'"),
    ],
)
def test_wrong_arguments_are_exit_2_with_the_flag(
    tmp_path: Path, options: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, pairs(5, bonus=0.0), **options)[0] == Exit.USAGE
    assert message in capsys.readouterr().err


def test_rewards_of_two_models_are_never_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = pairs(5, bonus=1.0), pairs(5, bonus=1.0, revision="cd" * 32)
    assert run(tmp_path, ours, theirs)[0] == Exit.USAGE
    assert "audit one reward model at a time" in capsys.readouterr().err
    assert run(tmp_path, [*ours, {**theirs[0], "key": "other"}])[0] == Exit.USAGE
    assert "key 'other' was scored by other weights (cdcdcdcdcdcd)" in capsys.readouterr().err
    del ours[2]["reward_model"]
    assert run(tmp_path, ours)[0] == Exit.USAGE
    assert "key 'pair-2' does not say which reward model" in capsys.readouterr().err


def test_a_response_that_is_neither_chosen_nor_rejected_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pairs(5, bonus=1.0)
    rows[1]["responses"][0]["chosen"] = 1
    assert run(tmp_path, rows)[0] == Exit.USAGE
    assert "key 'pair-1': response 0 has neither true nor false" in capsys.readouterr().err


def test_a_probe_whose_name_holds_the_sign_is_cut_at_the_last_one() -> None:
    flag = parse_response_flag("probe:a>b>0.5")
    assert flag({}, {"probes": {"a>b": {"score": 0.6}}})
    assert not flag({}, {"probes": {"a>b": {"score": 0.5}}})
