"""`candor bon --target`: every arm's figures against enumeration, the verdict, and the plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candor.jobs.compare.words import WordList
from candor.jobs.rollouts.bon import BonOptions, bon
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import file_sha256, write_rows
from tests.jobs.enumeration import by_enumeration
from tests.pages import checked

TEXTS = ("blue", "black", "It is blue, I would say", "It is black")
NUM = len(TEXTS)


def score(base: float, s: float, strength: float, **nulls: float) -> dict[str, Any]:
    """One response's scores; the probe `syc` has a hinge at 0, null probes have lambda 0."""
    probes = {
        name: {
            "score": value, "bounded": max(0.0, value), "mean": value, "max": value,
            "lambda": strength if name == "syc" else 0.0,
        }
        for name, value in {"syc": s, **nulls}.items()
    }  # fmt: skip
    penalty = strength * max(0.0, s)
    return {
        "base_reward": base, "penalty": penalty, "reward": base - penalty, "probes": probes,
        "num_tokens": 3, "truncated": False,
    }  # fmt: skip


def rows_of(
    num_rows: int = 24, informed: float = 4.0, strength: float = 1.0, null_probes: int = 0
) -> list[dict[str, Any]]:
    """Prompts with and without a wrong user; R favours "blue", which is the user's value there."""
    rng = np.random.default_rng(0)
    rows = []
    for place in range(num_rows):
        stance = "wrong" if place % 2 else "none"
        texts = [TEXTS[(place + step) % NUM] for step in range(NUM)] * 2
        sides = [stance == "wrong" and "blue" in text for text in texts]
        rows.append(
            {
                "key": f"row-{place}",
                "messages": [{"role": "user", "content": f"question {place}"}],
                "meta": {"stance": stance, "question": place // 4},
                "responses": [
                    {
                        "text": text,
                        "verdict": "user" if side else "truth" if "black" in text else "other",
                    }
                    for text, side in zip(texts, sides, strict=True)
                ],
                "scores": [
                    score(
                        float(rng.normal() + 1.5 * side),
                        float(rng.normal() + informed * side - 1),
                        strength,
                        **{f"null-{k}": float(rng.normal()) for k in range(null_probes)},
                    )
                    for side in sides
                ],
            }
        )
    return rows


def run(folder: Path, rows: list[dict[str, Any]], **options: Any) -> tuple[int, dict[str, Any]]:
    scored, out = folder / "scored.jsonl", folder / "bon.json"
    write_rows(scored, rows)
    given = {"n": "1,4", "target": "verdict:user", "where": "meta.stance=wrong", **options}
    code = bon(BonOptions(scored=scored, out=out, **given))
    return code, json.loads(out.read_bytes()) if out.exists() else {}


def expectations(rows: list[dict[str, Any]], rewards: list[list[float]], what: str) -> list[float]:
    """Of each row: the chance that the best of 4 has the verdict, by enumeration."""
    found = []
    for row, values in zip(rows, rewards, strict=True):
        flags = [float(one["verdict"] == what) for one in row["responses"]]
        found.append(float(by_enumeration(values, 4) @ flags))
    return found


def test_the_arms_have_the_figures_of_enumeration(tmp_path: Path) -> None:
    rows = rows_of()
    code, report = run(tmp_path, rows, keep="verdict:truth")
    assert code == Exit.DONE
    found = report["reduction"]
    assert (found["n"], found["target"], found["where"]) == (4, "verdict:user", "meta.stance=wrong")
    assert list(found["arms"]) == ["penalty", "no penalty", "permuted penalty", "length"]
    arms = found["strengths"][0]["arms"]
    base = [[one["base_reward"] for one in row["scores"]] for row in rows]
    reward = [[one["reward"] for one in row["scores"]] for row in rows]
    for name, rewards in (("penalty", reward), ("no penalty", base)):
        users = expectations(rows, rewards, "user")
        assert arms[name]["target"]["mean"] == pytest.approx(np.mean(users[1::2]))
        kept = arms[name]["kept"]
        assert list(kept) == ["none", "wrong"]
        for condition, part in (("none", slice(0, None, 2)), ("wrong", slice(1, None, 2))):
            truths = expectations(rows, rewards, "truth")[part]
            assert kept[condition]["keep"]["mean"] == pytest.approx(np.mean(truths))
            gains = [
                (by_enumeration(values, 4) @ r - np.mean(r), by_enumeration(r, 4) @ r - np.mean(r))
                for values, r in zip(rewards[part], base[part], strict=True)
            ]
            top, bottom = np.sum(gains, axis=0)
            assert kept[condition]["R"]["mean"] == pytest.approx(top / bottom)
            low, high = (kept[condition]["R"][end] for end in ("low", "high"))
            assert low is None or low <= top / bottom <= high
    lengths = [[len(one["text"]) for one in row["responses"]] for row in rows]
    assert arms["length"]["target"]["mean"] == pytest.approx(
        np.mean(expectations(rows, by_length(rows, lengths), "user")[1::2])
    )


def by_length(rows: list[dict[str, Any]], lengths: list[list[int]]) -> list[list[float]]:
    """R minus the length penalty, by its description, in plain loops over one table."""
    paid = np.array([[one["penalty"] for one in row["scores"]] for row in rows])
    size = np.array(lengths, dtype=float)
    if np.sum((size - size.mean(1, keepdims=True)) * (paid - paid.mean(1, keepdims=True))) < 0:
        size = -size
    size = np.maximum(size - np.quantile(size, np.mean(paid == 0)), 0)
    size *= (paid - paid.mean(1, keepdims=True)).std() / (size - size.mean(1, keepdims=True)).std()
    base = np.array([[one["base_reward"] for one in row["scores"]] for row in rows])
    return [list(map(float, row)) for row in base - size]


def test_a_probe_that_knows_reduces_and_one_that_does_not_is_not_said_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, report = run(tmp_path, rows_of(40))
    verdict = report["reduction"]["strengths"][0]["verdict"]
    assert verdict["word"] == "reduces"
    assert {one["arm"] for one in verdict["arms"]} == {"no penalty", "permuted penalty", "length"}
    assert all(one["null_minus_real"]["low"] > 0 for one in verdict["arms"])
    *table, last = capsys.readouterr().out.splitlines()
    assert table[0].startswith("best of 4: verdict:user where meta.stance=wrong")
    hardest = verdict["hardest_arm"]
    assert table[-1] == f"the penalty reduces verdict:user (hardest arm: {hardest})"
    assert json.loads(last)["verdict"] == verdict
    _, report = run(tmp_path, rows_of(40, informed=0))
    assert report["reduction"]["strengths"][0]["verdict"]["word"] == "not shown to reduce"
    assert "the penalty not shown to reduce" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_report_and_no_prompt_shares_its_draws(
    tmp_path: Path,
) -> None:
    rows = rows_of()
    first, again, other = (run(tmp_path, rows, seed=seed)[1]["reduction"] for seed in (0, 0, 1))
    assert first == again
    means = [
        one["strengths"][0]["arms"]["permuted penalty"]["target"]["mean"] for one in (first, other)
    ]
    assert means[0] != means[1]
    assert means[0] == pytest.approx(means[1], abs=0.05)


def test_prompts_of_one_unit_count_once(tmp_path: Path) -> None:
    rows = rows_of(24)
    _, each = run(tmp_path, rows)
    _, by_question = run(tmp_path, rows, unit="meta.question")
    arms = [one["reduction"]["strengths"][0]["verdict"]["arms"][0] for one in (each, by_question)]
    assert [one["num_units"] for one in arms] == [12, 6]
    assert arms[0]["null_minus_real"]["mean"] == pytest.approx(arms[1]["null_minus_real"]["mean"])
    assert by_question["reduction"]["unit"] == "meta.question"


def test_a_sweep_is_compared_at_an_equal_fall_and_drawn(tmp_path: Path) -> None:
    rows = rows_of(40)
    _, report = run(tmp_path, rows, keep="verdict:truth", lambda_sweep=["syc=0.2,3,0,1"])
    found = report["reduction"]["equal_fall"]
    assert (found["sweep"], found["probe"]) == ("lambda_sweep", "syc")
    strengths = report["reduction"]["strengths"]
    targets = {
        entry["strength"]["lambda"]: entry["arms"]["penalty"]["target"]["mean"]
        for entry in strengths[1:]
    }
    assert targets[0] == pytest.approx(strengths[0]["arms"]["no penalty"]["target"]["mean"])
    assert targets[1] == pytest.approx(strengths[0]["arms"]["penalty"]["target"]["mean"])
    last = found["levels"][-1]
    assert last["fall"] == pytest.approx(targets[0] - min(targets.values()))
    assert last["kept"]["permuted penalty"] is None
    assert set(last["kept"]["penalty"]) == {"R, none", "keep, none", "R, wrong", "keep, wrong"}
    page = checked((tmp_path / "bon.json.html").read_text())
    assert page.plots == ["curves", "fall-0"]
    panels = {one["title"]: one["lines"] for one in page.data["plots"]["fall-0"]["panels"]}
    assert "verdict:truth, meta.stance: none" in panels
    (penalty,) = (
        line
        for line in panels["share of R's gain kept, meta.stance: wrong"]
        if line["name"] == "penalty"
    )
    assert penalty["x"][-1] == pytest.approx(targets[0] - targets[3])
    run(tmp_path, rows)  # without a sweep there is nothing to draw
    assert checked((tmp_path / "bon.json.html").read_text()).plots == ["curves"]


def test_the_word_list_is_an_arm(tmp_path: Path) -> None:
    words = WordList(data_sha256="ab", num_rows=2, bias=-1.0, weights={"blue": 2.0})
    (tmp_path / "words.json").write_text(words.model_dump_json())
    _, report = run(tmp_path, rows_of(40), words=tmp_path / "words.json")
    entry = report["reduction"]["strengths"][0]
    # A list that knows the value does what the probe does.
    assert entry["arms"]["words"]["target"]["mean"] < entry["arms"]["length"]["target"]["mean"]
    assert entry["verdict"]["hardest_arm"] == "words"
    manifest = json.loads((tmp_path / "bon.json.manifest.json").read_bytes())
    assert set(manifest["inputs"]) == {"scored", "words"}


def with_manifest(folder: Path, kinds: dict[str, str]) -> None:
    """The manifest of `scored.jsonl`, with a card for each probe."""
    spread = {
        "std_R": 1.0,
        "std_S": 1.0,
        "std_bounded_S": 1.0,
        "percentiles": {},
        "num_prompts": 2,
        "num_responses": 4,
    }
    cards = {
        name: {
            "name": name, "trait": "t", "layer": 1, "pooling": "mean", "template_sha256": "ab",
            "model": {"id": "m", "weights_sha256": "ab", "hidden_size": 2, "num_layers": 2},
            "bound": {"kind": "hinge", "reference": 0.0},
            "calibration": {**spread, "source": "s"},
            "metrics": {"null": {"kind": kind, "of": "syc", "seed": 0}} if kind else {},
            "data": {"sha256": "ab", "num_rows": 1, "num_groups": 1, "kinds": {}},
            "versions": {}, "created": "2026-11-30",
        }
        for name, kind in kinds.items()
    }  # fmt: skip
    probes = [{"name": name, "card": card} for name, card in cards.items()]
    manifest = {
        "output": {"sha256": file_sha256(folder / "scored.jsonl")},
        "server": {"probes": {"probes": probes}},
    }
    (folder / "scored.jsonl.manifest.json").write_text(json.dumps(manifest))


def test_served_null_probes_are_one_arm_with_their_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(40, null_probes=3)
    run(tmp_path, rows)
    told = capsys.readouterr()
    assert "whether one of the probes syc, null-0, null-1, null-2 is a null probe" in told.err
    kinds = {"syc": "", **dict.fromkeys(("null-0", "null-1", "null-2"), "random-direction")}
    with_manifest(tmp_path, kinds)
    _, report = run(tmp_path, rows)
    assert capsys.readouterr().err.endswith("scored.jsonl: 40 rows (Candor rows)\n")
    entry = report["reduction"]["strengths"][0]
    by_arm = {one["arm"]: one for one in entry["verdict"]["arms"]}
    assert by_arm["random-direction"]["num_seeds"] == 3
    assert entry["verdict"]["word"] == "reduces"
    means = []
    for name in ("null-0", "null-1", "null-2"):
        paid = np.array([[one["penalty"] for one in row["scores"]] for row in rows])
        null = np.array([[one["probes"][name]["bounded"] for one in row["scores"]] for row in rows])
        null *= (paid - paid.mean(1, keepdims=True)).std() / (
            null - null.mean(1, keepdims=True)
        ).std()
        base = np.array([[one["base_reward"] for one in row["scores"]] for row in rows])
        means.append(np.mean(expectations(rows, (base - null).tolist(), "user")[1::2]))
    assert entry["arms"]["random-direction"]["target"]["mean"] == pytest.approx(np.mean(means))


def test_an_arm_that_cannot_be_made_as_strong_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of()
    for row in rows:
        for response in row["responses"]:
            response["text"] = response["text"].ljust(30)
    _, report = run(tmp_path, rows)
    entry = report["reduction"]["strengths"][0]
    assert entry["arms_left_out"] == ["length"]
    assert list(entry["arms"]) == ["penalty", "no penalty", "permuted penalty"]
    told = capsys.readouterr().out
    assert "left out, as equal for all responses to each prompt: length" in told


def test_without_a_target_nothing_is_added(tmp_path: Path) -> None:
    _, report = run(tmp_path, rows_of(), target=None, where=None)
    assert "reduction" not in report


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": None}, "--where goes with --target"),
        ({"target": "user"}, "--target user: must be contains:TEXT"),
        ({"keep": "truth"}, "--keep truth: must be contains:TEXT"),
        ({"where": "wrong"}, "--where wrong: must be FIELD=VALUE"),
        ({"where": "meta.stance=sure"}, "--where meta.stance=sure: the rows have none, wrong"),
        ({"where": "meta.mood=wrong"}, "no text or number under 'meta.mood' (--where)"),
        ({"unit": "meta.poem"}, "no text or number under 'meta.poem' (--unit)"),
        ({"where": "meta.stance=none"}, "--target verdict:user: no response there has it"),
        ({"target": "verdict:left"}, "--target verdict:left: no response there has it"),
        ({"words": Path("absent.json")}, "absent.json: No such file"),
    ],
)
def test_wrong_options_are_refused_by_name(
    tmp_path: Path, options: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, rows_of(), **options) == (Exit.USAGE, {})
    assert message in capsys.readouterr().err


def test_a_response_without_a_verdict_is_refused_by_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of()
    del rows[3]["responses"][1]["verdict"]
    assert run(tmp_path, rows) == (Exit.USAGE, {})
    told = capsys.readouterr().err
    assert "key 'row-3': response 1 has no text under 'verdict' (`candor judge` writes it)" in told
