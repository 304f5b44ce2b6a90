"""`candor eval sycophancy`: scripted policies come out as scripted, whatever is lost or killed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from candor.jobs.running.exits import Exit
from candor.jobs.sycophancy import judges
from candor.jobs.sycophancy.job import SycophancyOptions, eval_sycophancy
from candor.jobs.sycophancy.measure import RULES
from candor.jobs.sycophancy.verdicts import JudgeOptions
from tests.client.replies import numbers
from tests.jobs.stub import Stub, running_stub
from tests.jobs.sycophancy.policies import (
    GLAD,
    NUM_QUESTIONS,
    PLAIN,
    fair,
    first_always,
    flatterer,
    steady,
    undecided,
)
from tests.paths import ROOT

ZERO, HALF, ONE = ({"mean": x, "low": x, "high": x} for x in (0.0, 0.5, 1.0))
NOTHING = {"mean": None, "low": None, "high": None}


@pytest.fixture
def policy() -> Iterator[Stub]:
    with running_stub() as running:
        running.say = flatterer
        yield running


@pytest.fixture
def judge() -> Iterator[Stub]:
    with running_stub() as running:
        running.say = fair
        yield running


def run(policy: Stub, out: Path, **options: Any) -> int:
    arguments: dict[str, Any] = {
        "n": 2,
        "limit": NUM_QUESTIONS,
        "retry_budget_s": 0.0,
        "generator_model": "tiny",
        **options,
    }
    judges = {name: arguments.pop(name) for name in options if name.startswith("judge")}
    return eval_sycophancy(
        SycophancyOptions(
            generator_url=policy.url, out=out, judges=JudgeOptions(**judges), **arguments
        )
    )


def report_of(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "eval.json").read_bytes())
    return report


def asking(judge: Stub) -> dict[str, Any]:
    return {"judge_url": judge.url, "judge_model": "tiny"}


def test_a_policy_that_flatters_comes_out_as_it_was_scripted(
    policy: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(policy, tmp_path) == Exit.DONE
    report = report_of(tmp_path)
    (entry,) = report["feedback"]["judges"]["vader"]["along_n"]
    # After "like", half of the candidates are glad (1) and half as plain as the neutral ones (0.5).
    assert entry["random"]["like"] == {"mean": 0.75, "low": 0.75, "high": 0.75}
    assert entry["random"]["dislike"] == ZERO
    assert entry["random"]["gap"] == {"mean": 0.75, "low": 0.75, "high": 0.75}
    sure = report["are_you_sure"]
    assert (sure["num_first_right"], sure["num_first_not_right"]) == (9, 3)
    rates = sure["along_n"][0]["random"]
    assert rates["flip_rate"]["mean"] == round(2.5 / 9, 6)
    assert rates["wrong_to_right"]["mean"] == round(1 / 3, 6)
    assert rates["flip_rate"]["low"] < rates["flip_rate"]["mean"] < rates["flip_rate"]["high"]
    assert sure["unclear"]["mean"] == round(2.5 / 12, 6)
    agreed = report["agreement"]["along_n"][0]["random"]
    assert agreed["agrees_with_wrong"] == agreed["agrees_with_right"] == ONE
    assert agreed["accuracy_unasked"]["mean"] == 0.75
    assert agreed["gives_wrong_unasked"]["mean"] == 0.25
    assert report["agreement"]["unclear"] == dict.fromkeys(("plain", "wrong", "right"), ZERO)
    assert report["quality"]["poems"]["along_n"][0]["random"]["num_words"]["mean"] == 5.0
    assert report["reward_model"] is None
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["out"] == str(tmp_path / "eval.json")
    assert last["feedback"]["vader"]["gap"] == {"random": 0.75}
    assert last["agreement"]["agrees_with_wrong"] == {"random": 1.0}
    assert last["lost"] == {"feedback": 0, "are_you_sure": 0, "agreement": 0}


def test_a_policy_that_does_not_flatter_has_no_gap_and_gives_nothing_up(
    policy: Stub, tmp_path: Path
) -> None:
    policy.say = steady
    assert run(policy, tmp_path) == Exit.DONE
    report = report_of(tmp_path)
    entry = report["feedback"]["judges"]["vader"]["along_n"][0]["random"]
    assert entry == {"gap": ZERO, "like": HALF, "dislike": HALF}
    rates = report["are_you_sure"]["along_n"][0]["random"]
    assert rates == {"flip_rate": ZERO, "wrong_to_right": NOTHING}  # no first answer was wrong
    agreed = report["agreement"]["along_n"][0]["random"]
    assert (agreed["agrees_with_wrong"], agreed["agrees_with_right"]) == (ZERO, ONE)


def test_with_a_reward_server_answers_are_chosen_by_each_reward(
    policy: Stub, judge: Stub, tmp_path: Path
) -> None:
    options = asking(judge) | {"reward_url": policy.url, "judge": "vader", "n": 4}
    assert run(policy, tmp_path, penalty=["sycophancy=2"], **options) == Exit.DONE
    report = report_of(tmp_path)
    assert report["reward_model"]["id"] == "tiny"
    curve = report["feedback"]["judges"]["vader"]["along_n"]
    assert [entry["n"] for entry in curve] == [1, 2, 4]
    for rule in RULES:
        assert curve[0][rule] == curve[0]["random"]
    # Two equal rules have no spread, so nobody knows what these poems could resolve.
    assert curve[0]["base_minus_penalised"]["gap"] == ZERO | {"smallest_difference": None}
    # Equal texts have equal rewards, so of glad and plain one is chosen by each reward.
    better = {
        rule: numbers(GLAD, 2.0)[field] > numbers(PLAIN, 2.0)[field]
        for rule, field in (("base", "base_reward"), ("penalised", "reward"))
    }
    for rule, glad in better.items():
        assert curve[2][rule]["like"]["mean"] == (1.0 if glad else 0.5)
        llm = report["feedback"]["judges"]["llm"]["along_n"][0][rule]
        assert llm == curve[2][rule]
    assert curve[2]["random"]["like"]["mean"] == 0.75
    # At random the language model judges the first drawn, which is glad.
    assert report["feedback"]["judges"]["llm"]["along_n"][0]["random"]["like"] == ONE
    agreed = report["feedback"]["agreement_between_judges"]
    assert agreed["between"] == ["vader", "llm"]
    assert agreed["share_equal"] == ONE
    assert agreed["cohens_kappa"] == 1.0
    # All neutral answers are one text: nothing is gained by R, so nothing can be kept.
    kept = report["quality"]["poems"]["reward_kept"]
    assert kept.keys() == {"base", "like", "dislike"}
    assert kept["base"] == NOTHING
    # After "I like it" answers differ, so R gains; the penalty keeps or loses all of it.
    best = {rule: numbers(max((GLAD, PLAIN), key=lambda text: numbers(text, 2.0)[field]), 2.0)
            for rule, field in (("base", "base_reward"), ("penalised", "reward"))}  # fmt: skip
    mean = (numbers(GLAD, 2.0)["base_reward"] + numbers(PLAIN, 2.0)["base_reward"]) / 2
    share = (best["penalised"]["base_reward"] - mean) / (best["base"]["base_reward"] - mean)
    assert kept["like"]["mean"] == pytest.approx(share, abs=1e-6)
    assert report["quality"]["questions"]["reward_kept"].keys() == {"plain", "wrong", "right"}
    rewards = report["quality"]["poems"]["along_n"][2]["base"]["base_reward"]
    assert rewards["mean"] == numbers(PLAIN, 2.0)["base_reward"]
    scored = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    assert scored[0]["scores"][0]["probes"]["sycophancy"]["lambda"] == 2.0


def test_a_judge_that_favours_a_place_says_nothing_and_is_found_out(
    policy: Stub, judge: Stub, tmp_path: Path
) -> None:
    judge.say = first_always
    assert run(policy, tmp_path, tasks="feedback", **asking(judge)) == Exit.DONE
    found = report_of(tmp_path)["feedback"]["judges"]
    assert found.keys() == {"llm"}
    assert found["llm"]["along_n"][0]["random"] == {"gap": ZERO, "like": HALF, "dislike": HALF}
    assert found["llm"]["order_disagreement"] == {"like": ONE, "dislike": ONE, "all": ONE}
    judge.say = fair  # the control: of a fair judge's pairs none changes with the order
    assert run(policy, tmp_path / "fair", tasks="feedback", **asking(judge)) == Exit.DONE
    found = report_of(tmp_path / "fair")["feedback"]["judges"]
    assert found["llm"]["order_disagreement"]["all"] == ZERO
    assert found["llm"]["along_n"][0]["random"]["gap"] == ONE


def test_every_pair_is_asked_in_both_orders_at_temperature_zero(
    policy: Stub, judge: Stub, tmp_path: Path
) -> None:
    run(policy, tmp_path, tasks="feedback", limit=2, **asking(judge))
    assert len(judge.bodies) == 2 * 2 * 2
    texts = [body["messages"][0]["content"] for body in judge.bodies]
    assert sum(f"A:\n{GLAD}" in text for text in texts) == 2
    assert sum(f"B:\n{GLAD}" in text for text in texts) == 2
    assert {(body["temperature"], body["n"]) for body in judge.bodies} == {(0.0, 1)}


def test_what_a_judge_does_not_decide_is_a_named_failure_and_no_number(
    policy: Stub, judge: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge.say = undecided
    options = {"tasks": "feedback", "judge": "vader", **asking(judge)}
    assert run(policy, tmp_path, **options) == Exit.ROWS_FAILED
    assert "12 rows failed" in capsys.readouterr().err
    feedback = report_of(tmp_path)["feedback"]
    # Every dislike pair failed, so no poem has all its verdicts; VADER's are all there.
    assert feedback["judges"]["llm"]["num_failed_verdicts"] == {"unparsable_verdict": 12}
    assert len(feedback["judges"]["llm"]["lost"]) == 12
    assert "along_n" not in feedback["judges"]["llm"]
    assert feedback["judges"]["vader"]["along_n"][0]["random"]["gap"]["mean"] == 0.75
    assert feedback["agreement_between_judges"]["num_pairs"] == 12
    judge.say = fair
    assert run(policy, tmp_path, **options) == Exit.DONE  # failed verdicts are asked for again
    assert report_of(tmp_path)["feedback"]["judges"]["llm"]["along_n"][0]["random"]["gap"] == ONE


def test_a_poem_and_a_question_lost_to_failures_are_left_out_and_counted(
    policy: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy.answers = [200, 400] + [200] * 34 + [400]
    options = {"concurrency": 1, "reward_url": policy.url}
    assert run(policy, tmp_path, **options) == Exit.ROWS_FAILED
    report = report_of(tmp_path)
    assert (report["feedback"]["num_poems"], len(report["feedback"]["lost"])) == (11, 1)
    assert report["are_you_sure"]["num_questions"] == 11  # its plain prompt was the 37th
    assert len(report["agreement"]["lost"]) == len(report["are_you_sure"]["lost"]) == 1
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["lost"] == {"feedback": 1, "are_you_sure": 1, "agreement": 1}
    assert run(policy, tmp_path, **options) == Exit.DONE
    assert report_of(tmp_path)["feedback"]["num_poems"] == 12
    assert run(policy, tmp_path / "whole", **options) == Exit.DONE
    assert (tmp_path / "eval.json").read_bytes() == (tmp_path / "whole/eval.json").read_bytes()


def test_answers_that_cannot_be_scored_are_no_candidates(policy: Stub, tmp_path: Path) -> None:
    policy.refused_texts = {GLAD}
    options = {"tasks": "feedback", "reward_url": policy.url}
    assert run(policy, tmp_path, n=4, **options) == Exit.DONE
    report = report_of(tmp_path)["feedback"]
    assert (report["num_poems"], report["num_short_prompts"]) == (12, 12)
    assert report["judges"]["vader"]["along_n"][0]["random"]["like"] == HALF
    # With one left of two, no choice is left: every poem is lost, and there is no number.
    assert run(policy, tmp_path / "none", n=2, **options) == Exit.ROWS_FAILED
    assert not (tmp_path / "none" / "eval.json").exists()


def test_a_second_run_asks_for_nothing_and_leaves_every_file(
    policy: Stub, judge: Stub, tmp_path: Path
) -> None:
    options = asking(judge) | {"judge": "vader", "reward_url": policy.url}
    run(policy, tmp_path, **options)
    asked = len(policy.bodies), len(judge.bodies)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json*")}
    assert run(policy, tmp_path, **options) == Exit.DONE
    assert (len(policy.bodies), len(judge.bodies)) == asked
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json*")} == before
    manifest = json.loads((tmp_path / "eval.json.manifest.json").read_bytes())
    assert manifest["inputs"].keys() == {"first", "feedback", "are_you_sure"}


def test_killed_and_restarted_it_ends_with_the_same_numbers(
    policy: Stub, judge: Stub, tmp_path: Path
) -> None:
    flags = ["--generator-model=tiny", "--n=2", "--limit=12", "--judge=vader", "--concurrency=2"]
    urls = [f"--generator-url={policy.url}", f"--reward-url={policy.url}"]
    judging = [f"--judge-url={judge.url}", "--judge-model=tiny", f"--out={tmp_path / 'killed'}"]
    options = asking(judge) | {"judge": "vader", "reward_url": policy.url}
    assert run(policy, tmp_path / "whole", **options) == Exit.DONE
    policy.delay_s = judge.delay_s = 0.04
    command = [sys.executable, "-m", "candor", "eval", "sycophancy", *flags, *urls, *judging]
    rng = random.Random(1)
    for stage in ("rollouts.jsonl", "scored.jsonl", "second/rollouts.jsonl", "verdicts.jsonl"):
        journal = tmp_path / "killed" / f"{stage}.part"
        process = subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        while not (journal.exists() and journal.stat().st_size):
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
    assert not (tmp_path / "killed" / "eval.json").exists()
    done = subprocess.run(
        command, cwd=ROOT, check=True, timeout=120, stdout=subprocess.PIPE, text=True
    )
    killed, whole = (tmp_path / name / "eval.json" for name in ("killed", "whole"))
    assert killed.read_bytes() == whole.read_bytes()
    assert json.loads(done.stdout.splitlines()[-1])["out"] == str(killed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": "feedback,flattery"}, "--tasks feedback,flattery: 'flattery' is none of "),
        ({"tasks": ""}, "is none of feedback, are-you-sure, agreement"),
        ({"n": 0}, "--n 0: "),
        ({"limit": 0}, "--limit 0: "),
        ({"judge": "gpt"}, "--judge gpt: the offline judge is vader"),
        ({"judge_url": "http://127.0.0.1:1"}, "--judge-url and --judge-model go together"),
        ({"judge_model": "m"}, "--judge-url and --judge-model go together"),
        ({"judge_url": "nowhere", "judge_model": "m"}, "--judge-url: "),
        ({"judge": "vader", "tasks": "agreement"}, "a judge is for the feedback task"),
        ({"penalty": ["sycophancy=1"]}, "--penalty and --kappa need a --reward-url"),
        ({"penalty": ["x"], "reward_url": "http://127.0.0.1:1"}, "--penalty x"),
        ({"reward_url": "nowhere"}, "--reward-url: "),
    ],
)
def test_flags_that_cannot_be_right_are_named(
    policy: Stub,
    tmp_path: Path,
    options: dict[str, Any],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(policy, tmp_path, **({"limit": 1, "n": 1} | options)) == Exit.USAGE
    assert message in capsys.readouterr().err
    assert not (tmp_path / "eval.json").exists()


def test_a_judge_that_does_not_serve_the_model_is_refused(
    policy: Stub, judge: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"judge_url": judge.url, "judge_model": "large", "tasks": "feedback", "limit": 1}
    assert run(policy, tmp_path, **options) == Exit.UNREACHABLE
    assert "wrong_model: " in capsys.readouterr().err
    assert judge.bodies == []


def test_without_vader_the_run_is_refused_before_anything_is_drawn(
    policy: Stub, judge: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "vaderSentiment.vaderSentiment", None)
    judges._analyzer.cache_clear()
    try:
        assert run(policy, tmp_path, limit=1) == Exit.USAGE
        assert "pip install 'candor-rewards[lab]'" in capsys.readouterr().err
        assert policy.bodies == []
        assert run(policy, tmp_path, limit=1, **asking(judge)) == Exit.DONE  # a judge without it
    finally:
        judges._analyzer.cache_clear()
