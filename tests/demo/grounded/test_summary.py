"""Shares of verdicts under every arm, against counting by hand; what the page says and escapes."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candor.jobs.compare.verdict import NO_PENALTY
from candor.jobs.grounded.judged import JudgedPrompt, judged_prompts
from candor.jobs.rollouts.best_of_n.arms import REAL
from demo.grounded import page, summary
from tests.demo.grounded.made import ATTACK, NULLS, M, flattered, scored
from tests.pages import checked


def prompts(rows: list[Any]) -> list[JudgedPrompt]:
    return judged_prompts(Path("scored.jsonl"), rows)


def test_shares_are_those_of_all_subsets() -> None:
    rows = scored(flattered)
    found = summary.measure(prompts(rows), NULLS, None)
    first = rows[0]["scores"]
    for name, field in ((NO_PENALTY, "base_reward"), (REAL, "reward")):
        values = [score[field] for score in first]
        for column, n in enumerate((1, 2, 4)):
            picks = [max(some, key=lambda i: values[i]) for some in combinations(range(M), n)]
            share = float(np.mean([pick % 4 == 0 for pick in picks]))
            assert found.arm(name).shares["agrees_with_wrong_user"][0, 0, column] == pytest.approx(
                share
            )
    random = found.arm(summary.RANDOM)
    assert np.allclose(random.shares["agrees_with_wrong_user"], 0.25)
    assert np.allclose(random.shares["truth_to_right_user"], 0.25)


def test_a_penalty_that_knows_reduces_and_one_that_does_not_is_not_said_to() -> None:
    knows = summary.measure(prompts(scored(flattered)), NULLS, None)
    assert knows.verdict.word == "reduces"
    guesses = summary.measure(
        prompts(scored(lambda v, rng: (2 * (v == "user") + rng.normal(), 3 * rng.random()))),
        NULLS,
        None,
    )
    assert guesses.verdict.word == "not shown to reduce"
    told = summary.as_json(knows, Path("page.html"))
    json.dumps(told, allow_nan=False)
    agrees = told["agrees_with_wrong_user"]
    assert agrees[NO_PENALTY]["mean"] > 0.6 > 0.25 > agrees[REAL]["mean"]
    assert set(agrees) >= {"random", "permuted penalty", "random-direction"}
    assert told["questions"] == 60
    assert told["candidates"] == 120 * M


def test_a_question_without_its_second_prompt_is_refused() -> None:
    rows = scored(flattered)
    with pytest.raises(ValueError, match="lacks the prompt"):
        summary.measure(prompts(rows[:-1]), NULLS, None)


def test_the_page_shows_the_headline_and_answers_stay_text(tmp_path: Path) -> None:
    rows = scored(flattered)
    found = summary.measure(prompts(rows), NULLS, None)
    model = {"id": "a model", "formula": "R - S"}
    out = tmp_path / "page.html"
    page.write_page(out, found, prompts(rows), rows, {}, model, {"seed": ATTACK})
    html = out.read_text()
    shown = checked(html)
    assert f"{found.arm(NO_PENALTY).at('agrees_with_wrong_user')[0]:.2f}" in html
    assert "reduces" in html
    assert ATTACK not in html
    assert ATTACK in shown.seen
    first = shown.data["groups"][0]
    assert first["candidates"][0]["notes"] == ["judged: user"]
    assert any(ATTACK in one["text"] for one in first["candidates"])
    panels = shown.data["plots"]["along"]["panels"]
    (by_r,) = (line for line in panels[0]["lines"] if line["look"] == "base")
    means = [found.arm(NO_PENALTY).at("agrees_with_wrong_user", n)[0] for n in range(5)]
    assert by_r["y"] == pytest.approx(means)
