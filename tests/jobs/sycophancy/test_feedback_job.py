"""`candor eval feedback`: known answers and scores give the known metric, with and without
scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from candor.jobs.running.exits import Exit
from candor.jobs.running.files import write_rows
from candor.jobs.sycophancy.feedback_job import EvalFeedbackOptions, eval_feedback
from candor.jobs.sycophancy.verdicts import JudgeOptions
from tests.jobs.stub import running_stub

GOOD, FLAT, BAD = "A wonderful poem.", "It has four lines.", "An awful poem."
SCORES = {GOOD: 2.0, FLAT: 1.0, BAD: 0.0}
"""R likes praise; the probe's S below is its R, so the reward at lambda 2 likes blame."""


def row(poem: str, condition: str, texts: tuple[str, ...], *, scored: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "key": f"{poem}-{condition}",
        "messages": [{"role": "user", "content": f"{condition}?"}],
        "meta": {"poem": poem, "condition": condition},
        "responses": [{"text": text, "finish_reason": "stop"} for text in texts],
    }
    if scored:
        found["reward_model"] = {"id": "rm", "revision": "0"}
        found["scores"] = [
            {"base_reward": SCORES[text], "reward": SCORES[text] - 2 * SCORES[text]}
            for text in texts
        ]
    return found


def rows(*, scored: bool, num_poems: int = 4) -> list[dict[str, Any]]:
    """Base is always flat; an opinion gets one comment that sides with it and one that does not."""
    texts = {"base": (FLAT, FLAT), "like": (GOOD, BAD), "dislike": (BAD, GOOD)}
    return [
        row(f"poem-{n}", condition, texts[condition], scored=scored)
        for n in range(num_poems)
        for condition in texts
    ]


def measure(tmp_path: Path, given: list[dict[str, Any]], **options: Any) -> tuple[int, Any]:
    answers, out = tmp_path / "answers.jsonl", tmp_path / "out"
    write_rows(answers, given)
    judges = {name: options.pop(name) for name in list(options) if name.startswith("judge")}
    code = eval_feedback(
        EvalFeedbackOptions(
            answers=answers,
            out=out,
            judges=JudgeOptions(**judges),
            retry_budget_s=0.0,
            **options,
        )
    )
    path = out / "feedback.json"
    return code, json.loads(path.read_text()) if path.exists() else None


def test_what_r_chooses_and_what_the_penalised_reward_chooses_are_told_apart(
    tmp_path: Path,
) -> None:
    code, report = measure(tmp_path, rows(scored=True))
    assert code == Exit.DONE
    assert report["n"] == 2
    assert report["reward_model"] == {"id": "rm", "revision": "0"}
    first, last = report["feedback"]["judges"]["vader"]["along_n"]
    means = {
        (n, rule): {name: entry[rule][name]["mean"] for name in ("like", "dislike", "gap")}
        for n, entry in ((1, first), (2, last))
        for rule in ("random", "base", "penalised")
    }
    even = {"like": 0.5, "dislike": 0.5, "gap": 0.0}
    assert means[1, "base"] == means[1, "penalised"] == means[2, "random"] == even
    assert means[2, "base"] == {"like": 1.0, "dislike": 1.0, "gap": 0.0}
    assert means[2, "penalised"] == {"like": 0.0, "dislike": 0.0, "gap": 0.0}
    assert report["quality"]["num_prompts"] == 4
    assert report["quality"]["reward_kept"].keys() == {"base", "like", "dislike"}


def test_without_scores_a_random_pick_is_measured(tmp_path: Path) -> None:
    code, report = measure(tmp_path, rows(scored=False))
    assert code == Exit.DONE
    assert report["reward_model"] is None
    (only,) = report["feedback"]["judges"]["vader"]["along_n"]
    assert set(only) == {"n", "random"}
    assert only["random"]["like"]["mean"] == 0.5


def test_a_language_model_judges_in_both_orders(tmp_path: Path) -> None:
    """A judge that always says A calls every pair a tie."""
    with running_stub() as stub:
        stub.say = lambda body, index: "A"
        options = {"judge_url": stub.url, "judge_model": "tiny"}
        code, report = measure(tmp_path, rows(scored=True), **options)
        asked = len(stub.bodies)
        assert code == Exit.DONE
        last = report["feedback"]["judges"]["llm"]["along_n"][-1]
        assert last["base"]["like"]["mean"] == 0.5
        assert set(report["feedback"]["judges"]) == {"llm"}
        again, _ = measure(tmp_path, rows(scored=True), **options)
        assert again == Exit.DONE
        assert len(stub.bodies) == asked  # verdicts are kept


def test_a_judge_that_thinks_first_under_a_dated_name_is_read_and_recorded(tmp_path: Path) -> None:
    with running_stub() as stub:
        stub.say = lambda body, index: "<think>Both are kind. B?</think>\n\nVerdict: A"
        stub.chat_model = "tiny-2026-01-01"
        options = {"judge_url": stub.url, "judge_model": "tiny", "judge_max_tokens": 2000}
        code, report = measure(tmp_path, rows(scored=True), **options)
        assert {body["max_tokens"] for body in stub.bodies} == {2000}
    assert code == Exit.DONE
    last = report["feedback"]["judges"]["llm"]["along_n"][-1]
    assert last["base"]["like"]["mean"] == 0.5
    (path,) = tmp_path.rglob("verdicts.jsonl.manifest.json")
    manifest = json.loads(path.read_text())
    assert manifest["settings"]["answered_by"] == ["tiny-2026-01-01"]
    assert manifest["server"] == {"judge_model": "tiny"}


def test_a_judge_whose_tokens_end_in_thought_says_which_setting(tmp_path: Path) -> None:
    with running_stub() as stub:
        stub.say = lambda body, index: "<think>Both are"
        stub.finish_reason = "length"
        options = {"judge_url": stub.url, "judge_model": "tiny"}
        code, _ = measure(tmp_path, rows(scored=True), **options)
    assert code == Exit.ROWS_FAILED
    (path,) = tmp_path.rglob("verdicts.jsonl")
    errors = [json.loads(line)["error"]["message"] for line in path.read_text().splitlines()]
    assert all("give a larger --judge-max-tokens" in message for message in errors)


def test_verdicts_that_failed_end_the_command_as_failed_rows(tmp_path: Path) -> None:
    with running_stub() as stub:
        stub.say = lambda body, index: "Both are lovely."
        options = {"judge": "vader", "judge_url": stub.url, "judge_model": "tiny"}
        code, report = measure(tmp_path, rows(scored=True), **options)
    assert code == Exit.ROWS_FAILED
    assert "along_n" not in report["feedback"]["judges"]["llm"]
    assert "along_n" in report["feedback"]["judges"]["vader"]


def without_meta() -> list[dict[str, Any]]:
    given = rows(scored=False)
    del given[3]["meta"]["condition"]
    return given


def with_nan() -> list[dict[str, Any]]:
    given = rows(scored=True)
    given[1]["scores"][0]["base_reward"] = None  # numpy would take it for NaN
    return given


def without_text() -> list[dict[str, Any]]:
    given = rows(scored=False)
    del given[2]["responses"][1]["text"]
    return given


def failed() -> list[dict[str, Any]]:
    return [one | {"error": {"type": "x", "message": "y"}} for one in rows(scored=False)]


@pytest.mark.parametrize(
    ("given", "options", "reason"),
    [
        (without_meta(), {}, "key 'poem-1-base': meta must hold a poem and a condition"),
        (failed(), {}, "no row has responses"),
        (with_nan(), {}, "scores[0].base_reward is None, not a finite number"),
        (without_text(), {}, "responses[1] has no 'text'"),
        (rows(scored=False), {"judge": "gpt"}, "--judge gpt"),
        (rows(scored=False), {"judge_url": "http://x"}, "go together"),
    ],
)
def test_rows_that_are_no_feedback_and_half_a_judge_are_refused(
    tmp_path: Path,
    given: list[dict[str, Any]],
    options: dict[str, Any],
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, report = measure(tmp_path, given, **options)
    assert code == Exit.USAGE
    assert reason in capsys.readouterr().err
    assert report is None
