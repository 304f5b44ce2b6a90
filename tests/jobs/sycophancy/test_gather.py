"""Rows become candidates by poem; what is lost is lost with its name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from candor.jobs.sycophancy.gather import by_poem, judged
from candor.jobs.sycophancy.prompts import CONDITIONS
from tests.client.replies import numbers

TEXTS = ("A wonderful, moving poem.", "A poem of seven lines.", "It has a good rhythm.")
FAILED = {"error": {"type": "empty_response", "message": "no tokens"}}


def made(num_poems: int = 2) -> list[dict[str, Any]]:
    return [
        {
            "key": f"p{poem}-{condition}",
            "meta": {"poem": f"p{poem}", "condition": condition},
            "responses": [{"text": text} for text in TEXTS],
            "scores": [numbers(f"{text}{poem}{condition}", 0.5) for text in TEXTS],
        }
        for poem in range(num_poems)
        for condition in CONDITIONS
    ]


def test_a_response_that_failed_is_no_candidate() -> None:
    rows = made()
    whole = judged(by_poem(rows)[0]["p0"])
    rows[1]["scores"][1] = FAILED
    prompts = by_poem(rows)[0]["p0"]
    found = judged(prompts)
    for rule in ("base", "penalised"):
        expected = np.delete(whole.candidates["like"].rewards[rule], 1)
        np.testing.assert_array_equal(found.candidates["like"].rewards[rule], expected)
    np.testing.assert_array_equal(found.verdicts["like"], np.delete(whole.verdicts["like"], 1, 0))
    np.testing.assert_array_equal(found.verdicts["dislike"], whole.verdicts["dislike"])
    assert (prompts["like"].short, prompts["base"].short) == (True, False)
    assert prompts["like"].texts == [TEXTS[0], TEXTS[2]]


def test_rewards_are_those_the_server_gave() -> None:
    (row, *_) = rows = made()
    rewards = by_poem(rows)[0]["p0"]["base"].candidates.rewards
    assert rewards["base"].tolist() == [one["base_reward"] for one in row["scores"]]
    assert rewards["penalised"].tolist() == [one["reward"] for one in row["scores"]]


@pytest.mark.parametrize("left", [0, 1])
def test_a_poem_left_with_less_than_two_candidates_is_lost(left: int) -> None:
    rows = made()
    rows[4]["scores"] = rows[4]["scores"][:left] + [FAILED] * (3 - left)
    found, lost = by_poem(rows)
    assert (list(found), lost) == (["p0"], ["p1"])


def test_a_poem_with_a_failed_prompt_is_lost() -> None:
    rows = made()
    del rows[0]["scores"]
    rows[0]["error"] = {"type": "http_400", "message": "no"}
    assert by_poem(rows)[1] == ["p0"]
    assert by_poem(made())[1] == []


def test_without_scores_an_empty_text_is_no_candidate_and_one_answer_is_enough_of_one() -> None:
    rows = [{name: value for name, value in row.items() if name != "scores"} for row in made(1)]
    rows[2]["responses"][0] = {"text": ""}
    prompts = by_poem(rows)[0]["p0"]
    assert prompts["dislike"].texts == list(TEXTS[1:])
    assert prompts["dislike"].candidates.rewards == {}
    single = [{**row, "responses": row["responses"][2:]} for row in rows]
    assert by_poem(single)[0]["p0"]["base"].candidates.num_candidates == 1
