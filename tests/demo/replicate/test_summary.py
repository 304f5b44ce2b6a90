"""The replication's summary: numbers of the right rule, said whichever way they come out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from candor.jobs.running.files import write_rows
from candor.probes.artifact import save
from candor.probes.kinds.table import KINDS
from demo.replicate.run import OURS, PAPER, RECIPES
from demo.replicate.summary import NS, best_of_n, headline, print_tables, summarise
from tests.service.serving import loaded_probe

GOOD, BAD, FLAT = "A wonderful, beautiful poem.", "A terrible, ugly poem.", "It has four lines."


def row(poem: str, condition: str, *candidates: tuple[str, float, float, float]) -> dict[str, Any]:
    """Candidates of (text, R, S of `paper`, S of `ours`); bound(S) = S, served at lambda 1 each."""
    scores = [
        {
            "reward": r - paper - ours,
            "base_reward": r,
            "penalty": paper + ours,
            "probes": {
                name: {"score": s, "bounded": s, "mean": s, "max": s, "lambda": 1.0}
                for name, s in (("paper", paper), ("ours", ours))
            },
        }
        for _, r, paper, ours in candidates
    ]
    return {
        "key": f"{poem}-{condition}",
        "messages": [{"role": "user", "content": condition}],
        "meta": {"poem": poem, "condition": condition},
        "responses": [{"text": text} for text, *_ in candidates],
        "scores": scores,
    }


def scored(poem: str) -> list[dict[str, Any]]:
    """R sides with the user; `ours` sees it, `paper` charges what R likes on neutral prompts."""
    return [
        row(poem, "base", (FLAT, 1.0, 2.0, 0.0), (FLAT, 0.0, 0.0, 0.0)),
        row(poem, "like", (GOOD, 1.0, 0.0, 2.0), (BAD, 0.0, 0.0, 0.0)),
        row(poem, "dislike", (BAD, 1.0, 0.0, 2.0), (GOOD, 0.0, 0.0, 0.0)),
    ]


ROWS = [*scored("sea"), *scored("hill")]


def at_largest(best: dict[str, Any], rule: str) -> tuple[float, float, float]:
    found = best["rules"][rule]
    gap, like, dislike = (found[name][-1]["mean"] for name in ("gap", "like", "dislike"))
    return gap, like, dislike


def test_each_rule_chooses_by_its_own_penalty_alone() -> None:
    best = best_of_n(ROWS, {"paper": 1.0, "ours": 1.0})
    assert best["num_poems"] == 2
    assert at_largest(best, "random") == (0.0, 0.5, 0.5)
    assert at_largest(best, "base") == (1.0, 1.0, 0.0)
    assert at_largest(best, "paper") == (1.0, 1.0, 0.0)  # it does not see the siding
    assert at_largest(best, "ours") == (-1.0, 0.0, 1.0)
    assert best["rules"]["ours"]["versus_base"]["like"][-1]["mean"] == -1.0
    assert [best["rules"]["ours"]["gap"][0]["mean"], len(best["n"])] == [0.0, len(NS)]


def test_what_a_penalty_costs_on_neutral_prompts_is_its_own() -> None:
    rules = best_of_n(ROWS, {"paper": 1.0, "ours": 1.0})["rules"]
    assert rules["ours"]["neutral_reward_kept"]["mean"] == 1.0
    assert rules["paper"]["neutral_reward_kept"]["mean"] == -1.0  # worse than a random pick
    assert rules["base"]["neutral_reward_kept"] is None


def test_at_lambda_0_a_penalty_changes_nothing() -> None:
    best = best_of_n(ROWS, {"ours": 0.0})
    assert at_largest(best, "ours") == at_largest(best, "base")


def test_a_poem_that_lacks_a_condition_is_left_out() -> None:
    assert best_of_n([*ROWS, scored("moor")[0]], {"ours": 1.0})["num_poems"] == 2


def kind(name: str, auroc: float | None) -> dict[str, Any]:
    return {
        "kind": name,
        "num_rows": 8,
        "num_groups": 4,
        "auroc": auroc,
        "auroc_low": auroc,
        "auroc_high": auroc,
        "within_prompt_auroc": auroc,
        "tpr_at_1_fpr": auroc,
    }


@pytest.fixture
def probes(tmp_path: Path) -> dict[str, Path]:
    folders = {}
    for recipe in RECIPES:
        made = loaded_probe(recipe.name)
        folder = folders[recipe.name] = tmp_path / recipe.name
        save(folder, made.probe, made.card)
        report = {
            "chosen": {"layer": 1, "method": "logistic", "C": 0.1, "pooling": "mean"},
            "metrics": {"test": {"auroc": 0.9, "auroc_low": 0.8, "auroc_high": 1.0}},
            "kinds": [kind("poems", 0.9), kind("genuine-agreement", None)],
            "transfer": [kind("poems", 0.86), kind("surveys", 0.5)],
            "genuine_agreement": {"threshold": 0.1, "tpr": 0.8, "fpr": 0.25, "num_rows": 8},
            "controls": {"length_auroc": 0.5},
        }
        (folder / "report.json").write_text(json.dumps(report))
    return folders


def test_the_summary_says_what_was_reached_and_what_was_not(
    probes: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path / "scored.jsonl", ROWS)
    kappas = {recipe.name: recipe.kappa for recipe in RECIPES}
    summary = summarise(probes, kappas, tmp_path / "scored.jsonl")
    told = summary["headline"]
    assert told["ours"]["held_out_auroc"] == {"poems": 0.86, "surveys": 0.5}
    assert told["ours"]["kinds_at_goal"] == 1
    assert told["ours"]["genuine_agreement_fpr"] == 0.25
    assert (told["ours"]["lowers_like"], told["ours"]["raises_dislike"]) == (True, True)
    assert (told["paper"]["lowers_like"], told["paper"]["raises_dislike"]) == (False, False)
    assert {one["kappa"] for one in summary["kappa_sweep"]["ours"]} >= {OURS.kappa, PAPER.kappa}
    json.dumps(summary, allow_nan=False)
    print_tables(summary)
    shown = capsys.readouterr().err
    for text in ("0.860 (0.86..0.86)", "genuine agreement flagged: 0.250", "best of 16, 2 poems"):
        assert text in shown, text


def test_a_probe_without_the_control_has_a_headline_too() -> None:
    best = best_of_n(ROWS, {"ours": 1.0})
    report = {"held_out": [], "genuine_agreement": None}
    assert headline({"ours": report}, best)["ours"]["genuine_agreement_fpr"] is None


def test_the_recipes_name_kinds_that_there_are() -> None:
    assert set(PAPER.kinds) <= set(KINDS)
    assert OURS.kinds == ()
