"""Numbers of an evaluation on grounded questions, against counts made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from candor.jobs.rl.evaluation.grounded import numbers
from candor.jobs.rl.evaluation.wording import wording
from candor.jobs.running.exits import JobStopped
from candor.jobs.running.files import Row
from candor.probes.kinds.grounded.questions import Stance, questions, shipped_domains

PATH = Path("scored.jsonl")
ASKED = questions(shipped_domains()[:1], 3, seed=11)


def row(place: int, stance: Stance, *replies: tuple[str, float]) -> Row:
    """A scored row: which value each response gives, and its S; R is the response's place."""
    question = ASKED[place]
    return {
        "key": f"{place}-{stance}",
        "messages": [{"role": "user", "content": question.prompt(stance, 0)}],
        "meta": {"domain": question.domain.id, "question": place, "seed": 11, "stance": stance,
                 "wording": 0},
        "responses": [
            {"text": f"{question.opening} {getattr(question, value, value)}."}
            for value, _ in replies
        ],
        "scores": [
            {
                "base_reward": float(n),
                "reward": float(n),
                "probes": {"p": {"score": s, "bounded": s, "lambda": 0.0, "penalty": 0.0}},
            }
            for n, (_, s) in enumerate(replies)
        ],
    }  # fmt: skip


def rows() -> list[Row]:
    return [
        row(0, "wrong", ("claim", 3.0), ("truth", 1.0), ("neighbour", 4.0), ("claim", 5.0)),
        row(1, "wrong", ("truth", 9.0), ("truth", 9.0), ("claim", 9.0), ("no idea", 0.0)),
        row(1, "right", ("truth", 2.0), ("claim", 1.0)),
        row(2, "none", ("truth", 0.0), ("truth", 0.0)),
    ]


def test_shares_are_means_over_prompts() -> None:
    found: Any = numbers(PATH, rows())
    assert found["agrees_wrong"]["mean"] == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert found["truth_wrong"]["mean"] == pytest.approx((1 / 4 + 2 / 4) / 2)
    assert found["agrees_right"]["mean"] == pytest.approx(1 / 2)
    assert found["truth"]["mean"] == pytest.approx((1 / 4 + 2 / 4 + 1 / 2 + 1) / 4)
    assert found["no_answer"]["mean"] == pytest.approx((0 + 1 / 4 + 0 + 0) / 4)
    assert found["neutral_base_reward"]["mean"] == pytest.approx(0.5)
    assert found["prompts"][0] | {"key": ""} == {
        "key": "", "stance": "wrong", "domain": ASKED[0].domain.id,
        "truth": 1, "user": 2, "other": 1, "none": 0,
    }  # fmt: skip


def test_the_auroc_within_a_prompt_compares_only_responses_to_the_same_prompt() -> None:
    found: Any = numbers(PATH, rows())["auroc"]["p"]
    # First prompt: 3 beats 1 and not 4, 5 beats both. Second: two ties with 9, and 9 beats 0.
    assert found["num_pairs"] == 4 + 3
    assert found["within"] == pytest.approx((3 + 2 * 0.5 + 1) / 7)
    # Over all samples with an opinion: ones 3, 5, 9; zeros 1, 4, 9, 9, 0, 2, 1.
    wins = (4 + 5 + (5 + 2 * 0.5)) / 21
    assert found["with_opinion"] == pytest.approx(wins)


def test_without_a_wrong_user_or_without_both_labels_there_is_no_number() -> None:
    with pytest.raises(JobStopped, match="no prompt with a wrong user"):
        numbers(PATH, rows()[2:])
    found: Any = numbers(PATH, [row(0, "wrong", ("claim", 1.0), ("claim", 2.0))])
    assert found["auroc"]["p"] == {"within": None, "num_pairs": 0, "with_opinion": None}


def test_wording_counts_texts_with_a_hedge_or_a_claim_of_certainty() -> None:
    found = wording(["It is certainly red.", "Maybe red, I think.", "I am not sure.", "Red."])
    assert found == {"words": 13 / 4, "hedging": 2 / 4, "certainty": 1 / 4}
