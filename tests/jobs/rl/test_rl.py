"""`candor rl` whole: TRL trains a tiny policy against a real server; killed, resumed, stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from candor.jobs.rl.step_log import StepLog
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import Row
from candor.watch.windows import MIN_WINDOW
from tests.jobs.rl.material import flags, held_out_prompts, policy, run, training_prompts
from tests.service.serving import LAMBDA, WEIGHTS, running, tiny_app

pytestmark = pytest.mark.trl

TIMES = ("step_s", "monitors", "alarms")
"""Of a row, what is not the run's own: the server's windows hold what came before it too."""


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rl")
    policy(folder / "policy")
    training_prompts(folder / "prompts.jsonl")
    held_out_prompts(folder / "held-out.jsonl")
    return folder


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(tiny_app()) as address:
        yield address


@pytest.fixture(scope="module")
def whole(material: Path, url: str) -> Path:
    """A run of four steps that nothing disturbed."""
    out = material / "whole"
    assert run(**flags(material, url, out=out, steps=4, eval_every=2)) == Exit.DONE
    return out


def rows(out: Path, file: str = "steps.jsonl") -> list[Row]:
    found = StepLog(out / file).rows()
    return [{name: row[name] for name in row if name not in TIMES} for row in found]


def test_a_run_leaves_a_row_a_step_evaluations_an_adapter_and_a_manifest(whole: Path) -> None:
    steps = StepLog(whole / "steps.jsonl").rows()
    assert [row["step"] for row in steps] == [1, 2, 3, 4]
    for row in steps:
        assert row["lambdas"] == {"sycophancy": LAMBDA, "length": 0.0}
        assert set(row["scores"]) == {"sycophancy", "length"}
        assert set(row["monitors"]) == {"unseen"}
        assert row["reward"] == pytest.approx(row["base_reward"] - row["penalty"], abs=1e-5)
        assert row["num_tokens"] <= 8
    assert steps[0]["kl"] == 0 < steps[3]["kl"]
    evals = StepLog(whole / "evals.jsonl").rows()
    assert [row["step"] for row in evals] == [0, 2, 4]
    assert all(row["num_poems"] == 2 and not row["lost"] for row in evals)
    assert evals[0]["gap"]["mean"] == pytest.approx(
        evals[0]["like"]["mean"] - evals[0]["dislike"]["mean"], abs=1e-6
    )
    assert (whole / "policy" / "adapter_model.safetensors").exists()
    summary = orjson.loads((whole / "summary.json").read_bytes())
    assert (summary["ended"], summary["steps"]) == ("done", 4)
    manifest = orjson.loads((whole / "summary.json.manifest.json").read_bytes())
    assert manifest["settings"]["reward_model_sha256"] == WEIGHTS
    assert manifest["settings"]["strengths"]["sycophancy"] == {"lambda": LAMBDA}
    assert {"trl", "peft"} <= set(manifest["packages"])


def test_the_penalty_is_what_is_trained_on_and_at_0_it_is_r(
    material: Path, url: str, whole: Path
) -> None:
    out = material / "base"
    penalty = ["sycophancy=0"]
    assert run(**flags(material, url, out=out, penalty=penalty, eval_every=0)) == Exit.DONE
    for row in rows(out):
        assert (row["penalty"], row["reward"]) == (0, pytest.approx(row["base_reward"]))
    first, penalised = rows(out)[0], rows(whole)[0]
    assert first["base_reward"] == penalised["base_reward"]  # same policy, seed and prompt
    assert first["reward"] != penalised["reward"]
    assert first["grad_norm"] != penalised["grad_norm"]


def test_a_run_that_has_ended_says_so_again_and_trains_nothing(
    material: Path, url: str, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    assert run(**flags(material, url, out=whole, steps=4, eval_every=2)) == Exit.DONE
    assert orjson.loads(capsys.readouterr().out.splitlines()[-1])["steps"] == 4
    assert before == {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}


def test_other_settings_in_its_folder_are_refused_by_name(
    material: Path, url: str, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(**flags(material, url, out=whole, steps=4, beta=0.5)) == Exit.USAGE
    err = capsys.readouterr().err
    assert "beta: 0.02 there, now 0.5" in err
    assert "eval_every: 2 there, now 0" in err


def test_killed_it_goes_on_from_its_checkpoint_and_takes_the_same_steps(
    material: Path, url: str, whole: Path
) -> None:
    out = material / "killed"
    given = flags(material, url, out=out, steps=4, eval_every=2)
    process = subprocess.Popen(
        [sys.executable, "-m", "candor", "rl"]
        + [
            f"--{name.replace('_', '-')}={value}"
            for name, value in given.items()
            if name != "stop_on_alarm"
        ]
        + ["--no-stop-on-alarm"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_checkpoint(out, 2, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "summary.json").exists()
    (out / "checkpoints" / "checkpoint-9").mkdir()  # as a kill in the middle of saving leaves it
    assert run(**given) == Exit.DONE
    assert rows(out) == rows(whole)
    # Not the scores: which texts share a batch of the server moves their last bits.
    for step in ("step-00000", "step-00002", "step-00004"):
        drawn, expected = (one / "evals" / step / "rollouts.jsonl" for one in (out, whole))
        assert drawn.read_bytes() == expected.read_bytes()
    ended, expected_end = (rows(one, "evals.jsonl")[-1]["gap"] for one in (out, whole))
    assert ended == expected_end


def test_killed_after_the_last_step_it_only_says_how_it_ended(
    material: Path, url: str, whole: Path
) -> None:
    out = material / "late"
    shutil.copytree(whole, out)
    (out / "summary.json").unlink()
    shutil.rmtree(out / "policy")
    assert run(**flags(material, url, out=out, steps=4, eval_every=2)) == Exit.DONE
    assert rows(out) == rows(whole)
    names = {path.name for path in (out / "policy").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= names
    assert not {"optimizer.pt", "trainer_state.json"} & names


def wait_for_checkpoint(out: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    whole = out / "checkpoints" / f"checkpoint-{step}" / "trainer_state.json"
    deadline = time.monotonic() + 600
    while not whole.exists():
        assert process.poll() is None, "it ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_signal_ends_it_after_the_step_and_it_goes_on(
    material: Path, url: str, whole: Path
) -> None:
    out = material / "interrupted"
    given = flags(material, url, out=out, steps=4, eval_every=2)

    def interrupt() -> None:
        while not rows(out):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert run(**given) == Exit.INTERRUPTED
    thread.join()
    assert 1 <= len(rows(out)) < 4
    assert run(**given) == Exit.DONE
    assert rows(out) == rows(whole)


def test_an_active_alarm_ends_it_with_a_code_and_a_reason_unless_it_is_no_guard(
    material: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(tiny_app()) as url:
        provoke_alarm(url)
        given = flags(material, url, out=material / "alarmed", stop_on_alarm=True)
        assert run(**given) == Exit.GUARD
        told = capsys.readouterr()
        assert "drift_alarm at step 1" in told.err
        assert orjson.loads(told.out.splitlines()[-1])["ended"] == "drift_alarm"
        assert run(**given) == Exit.GUARD  # told again
        assert [row["step"] for row in rows(material / "alarmed")] == [1]
        assert run(**given | {"stop_on_alarm": False}) == Exit.DONE  # on from step 1
        assert [row["step"] for row in rows(material / "alarmed")] == [1, 2]


def test_a_run_in_which_no_alarm_can_fire_is_refused_or_says_so(
    material: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(tiny_app()) as url:
        given = flags(material, url, out=material / "short")
        assert run(**given | {"stop_on_alarm": True}) == Exit.USAGE
        told = capsys.readouterr().err
        assert "no drift alarm can fire" in told
        assert f"takes {MIN_WINDOW} more" in told
        assert "the run has 8 (2 steps of 4)" in told
        assert run(**given) == Exit.DONE
        assert "no drift alarm can fire" in capsys.readouterr().err
        enough = {"stop_on_alarm": True, "group_size": MIN_WINDOW // 2}
        assert run(**given | enough | {"out": material / "enough"}) != Exit.USAGE
        assert "no drift alarm can fire" not in capsys.readouterr().err


def test_the_drift_reference_is_the_untrained_policys_and_only_a_shift_raises_an_alarm(
    material: Path, tmp_path: Path
) -> None:
    """The run's own responses come after the reference; then a planted shift in the same window."""
    with running(tiny_app()) as url:
        given = flags(material, url, out=tmp_path / "run", group_size=MIN_WINDOW // 2)
        assert run(**given) == Exit.DONE
        reference = orjson.loads((tmp_path / "run" / "drift-reference.json").read_bytes())
        assert {len(column) for column in reference["columns"].values()} == {MIN_WINDOW}
        steps = StepLog(tmp_path / "run" / "steps.jsonl").rows()
        # Not full after one step of half a window, full and quiet after two.
        assert steps[0]["alarms"] is None
        assert steps[1]["alarms"] == []
        before = httpx2.get(f"{url}/v1/drift").json()
        assert not any(alarm["active"] for alarm in before["alarms"])
        lowest = min(reference["columns"]["score.sycophancy"])
        shifted = low_and_long(url, lowest)
        body = {"items": [{"prompt": "The poem is", "templated": True, "responses": shifted}]}
        httpx2.post(f"{url}/v1/rewards", json=body)
        after = httpx2.get(f"{url}/v1/drift").json()
        assert any(alarm["active"] for alarm in after["alarms"])


def low_and_long(url: str, below: float) -> list[str]:
    """A window of long responses of low S."""
    texts = [f" {word}" * 30 for word in ("good", "sea", "the", "of", "poem", "think", "blue")]
    body = {"items": [{"prompt": "The poem is", "templated": True, "responses": texts}]}
    answer = httpx2.post(f"{url}/v1/rewards", json=body).json()["results"][0]["responses"]
    found = [one["probes"]["sycophancy"]["score"] for one in answer]
    return [texts[found.index(min(found))]] * MIN_WINDOW


def provoke_alarm(url: str) -> None:
    """Fill the reference with short texts of high S, the current window with long ones of low S."""
    short = [f" {word}" for word in ("good", "sea", "the", "of", "poem", "think", "blue")]
    long = [f" {word}" * 30 for word in ("good", "sea", "the", "of", "poem", "think", "blue")]

    def send(responses: list[str]) -> list[float]:
        body = {"items": [{"prompt": "The poem is", "templated": True, "responses": responses}]}
        answer = httpx2.post(f"{url}/v1/rewards", json=body).json()["results"][0]["responses"]
        return [one["probes"]["sycophancy"]["score"] for one in answer]

    ranked = sorted(zip(send(short), short, strict=True))
    lowest = min(zip(send(long), long, strict=True))
    assert lowest[0] < ranked[-2][0]
    send([ranked[-1][1], ranked[-2][1]] * (MIN_WINDOW // 2))
    send([lowest[1]] * MIN_WINDOW)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"group_size": 1}, "--group-size 1: must be at least 2"),
        ({"beta": -1.0}, "--beta -1.0"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0"),
        ({"quality_floor": -0.1}, "--quality-floor -0.1"),
        ({"penalty": ["flattery=1"]}, "no probe 'flattery' is served"),
        ({"penalty": ["sycophancy=1"], "kappa": ["sycophancy=1"]}, "given two strengths"),
        ({"generation": "magic"}, "--generation magic"),
        ({"policy": Path("nowhere")}, "--policy nowhere"),
        ({"reward_url": "localhost:1"}, "--reward-url"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_cannot_be_right_is_said_before_anything_is_trained(
    material: Path,
    url: str,
    changed: dict[str, Any],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = material / "wrong"
    assert run(**flags(material, url, out=out) | changed) == Exit.USAGE
    assert said in capsys.readouterr().err
    assert not (out / "steps.jsonl").exists() or not rows(out)


def test_a_prompt_of_the_evaluation_is_not_trained_on(
    material: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = flags(material, url, prompts=material / "held-out.jsonl", out=material / "leak")
    assert run(**given) == Exit.USAGE
    assert "'poem-0-base' is also a prompt of the evaluation" in capsys.readouterr().err
