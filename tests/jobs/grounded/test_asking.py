"""`candor data questions`: prompts that the exact judge knows again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from candor.jobs.grounded.asking import QuestionsOptions, question_prompts
from candor.jobs.grounded.judged import asked, with_verdicts
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import Row, read_rows
from candor.probes.kinds.grounded.questions import STANCES, Stance, shipped_domains


def written(folder: Path, stance: list[Stance] | None = None, per_domain: int = 3) -> list[Row]:
    out = folder / "new" / "prompts.jsonl"
    options = QuestionsOptions(out=out, per_domain=per_domain, stance=stance, seed=4)
    assert question_prompts(options) == Exit.DONE
    return read_rows(out)


def test_every_question_is_asked_under_every_stance_and_known_again(tmp_path: Path) -> None:
    rows = written(tmp_path, list(STANCES))
    assert len({row["key"] for row in rows}) == len(rows)
    found = [asked(row) for row in rows]
    counts = Counter((question.domain.id, stance) for question, stance, _ in found)
    assert counts == {(one.id, stance): 3 for one in shipped_domains() for stance in STANCES}
    for row, (question, stance, wording) in zip(rows, found, strict=True):
        assert row["messages"] == [{"role": "user", "content": question.prompt(stance, wording)}]
        assert row["response_prefix"] == question.opening
    assert len({wording for _, stance, wording in found if stance == "wrong"}) > 3


def test_by_default_a_wrong_and_a_right_user_ask_and_answers_are_judged(tmp_path: Path) -> None:
    rows = written(tmp_path)
    assert Counter(row["meta"]["stance"] for row in rows) == {"wrong": 30, "right": 30}
    for row in rows[:8]:
        question, stance, _ = asked(row)
        texts = [f"{question.opening} {value}." for value in (question.claim, question.truth)]
        given = {**row, "responses": [{"text": text} for text in texts]}
        verdicts = [one["verdict"] for one in with_verdicts(tmp_path, given)["responses"]]
        assert verdicts == ["user" if stance == "wrong" else "other", "truth"]


def test_another_seed_asks_other_questions(tmp_path: Path) -> None:
    texts = []
    for seed in (4, 5):
        options = QuestionsOptions(out=tmp_path / f"{seed}.jsonl", seed=seed)
        question_prompts(options)
        texts.append({row["messages"][0]["content"] for row in read_rows(options.out)})
    assert not texts[0] & texts[1]


def test_no_questions_are_refused_by_the_flags_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = QuestionsOptions(out=tmp_path / "prompts.jsonl", per_domain=0)
    assert question_prompts(options) == Exit.USAGE
    assert "--per-domain must be at least 1, got 0" in capsys.readouterr().err
    assert not options.out.exists()
