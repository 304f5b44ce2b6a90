"""`candor generate`: candidates by key, the same seeds after a restart, no wrong model."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from candor.jobs.rollouts.generate import GenerateOptions, generate, row_seed
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import read_rows, write_rows
from tests.jobs.stub import Stub, rows_of
from tests.paths import ROOT


def prompts(num_rows: int) -> list[dict[str, Any]]:
    return [
        {
            "key": f"poem-{row:03}",
            "messages": [{"role": "user", "content": f"Judge poem {row}."}],
            "meta": {"poem": row, "note": "kept as it is"},
        }
        for row in range(num_rows)
    ]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    write_rows(path, prompts(8))
    return path


def run(stub: Stub, source: Path, out: Path, **options: Any) -> int:
    arguments: dict[str, Any] = {"n": 3, "max_tokens": 9, "retry_budget_s": 0.0, **options}
    return generate(
        GenerateOptions(
            prompts=source,
            out=out,
            generator_url=stub.url,
            generator_model=arguments.pop("model", "tiny"),
            **arguments,
        )
    )


def test_every_prompt_gets_n_candidates_drawn_with_its_own_seed(
    stub: Stub, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rollouts.jsonl"
    assert run(stub, source, out, seed=5, temperature=0.7) == Exit.DONE
    for given, row in zip(prompts(8), rows_of(out), strict=True):
        seed = row_seed(5, given["key"])
        assert row["model"] == "tiny"
        assert row["responses"] == [
            {"text": f"{given['messages'][0]['content']} {seed} {index}", "finish_reason": "stop"}
            for index in range(3)
        ]
        assert {name: row[name] for name in given} == given
    for body in stub.bodies:
        assert {name: body[name] for name in ("n", "temperature", "top_p", "max_tokens")} == {
            "n": 3,
            "temperature": 0.7,
            "top_p": 1.0,
            "max_tokens": 9,
        }


def test_a_rows_seed_depends_on_run_seed_and_key_and_on_nothing_else() -> None:
    assert row_seed(0, "poem-000") == 492997175
    seeds = {row_seed(run_seed, f"k{key}") for run_seed in range(10) for key in range(100)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_order_and_concurrency_change_nothing(stub: Stub, source: Path, tmp_path: Path) -> None:
    one, many = tmp_path / "one.jsonl", tmp_path / "many.jsonl"
    run(stub, source, one, concurrency=1)
    write_rows(source, prompts(8)[::-1])
    stub.delay_s = 0.01
    run(stub, source, many, concurrency=8)
    assert rows_of(one) == rows_of(many)[::-1]


def test_another_setting_draws_anew_and_is_not_mixed_in(
    stub: Stub, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rollouts.jsonl"
    run(stub, source, out, n=2)
    run(stub, source, out, n=3)
    assert {len(row["responses"]) for row in rows_of(out)} == {3}
    asked = len(stub.bodies)
    run(stub, source, out, n=3, concurrency=2)  # how many at a time decides nothing
    assert len(stub.bodies) == asked


def test_a_response_prefix_is_part_of_every_candidate_and_of_what_decides(
    stub: Stub, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rollouts.jsonl"
    run(stub, source, out)
    assert not [body for body in stub.bodies if "continue_final_message" in body]
    run(stub, source, out, response_prefix="My thoughts:\n")
    assert len(stub.bodies) == 16
    assert stub.bodies[-1]["messages"][-1] == {"role": "assistant", "content": "My thoughts:\n"}
    texts = [one["text"] for row in rows_of(out) for one in row["responses"]]
    assert len(texts) == 24
    assert all(text.startswith("My thoughts:\nJudge poem ") for text in texts)
    manifest = json.loads((tmp_path / "rollouts.jsonl.manifest.json").read_bytes())
    assert manifest["settings"]["response_prefix"] == "My thoughts:\n"


def test_a_row_has_a_response_prefix_of_its_own(stub: Stub, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "rollouts.jsonl"
    first, second, *_ = prompts(3)
    write_rows(source, [first | {"response_prefix": "Mine: "}, second, first | {"key": "third"}])
    run(stub, source, out, response_prefix="All: ", stop=["."])
    begins = [{one["text"].split(":")[0] for one in row["responses"]} for row in rows_of(out)]
    assert begins == [{"Mine"}, {"All"}, {"All"}]
    assert all(body["stop"] == ["."] for body in stub.bodies)
    assert all(body["include_stop_str_in_output"] is True for body in stub.bodies)


def test_a_response_prefix_that_is_no_text_is_named(
    stub: Stub, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rollouts.jsonl"
    write_rows(source, [row | {"response_prefix": 3} for row in prompts(1)])
    run(stub, source, out)
    assert "response_prefix" in rows_of(out)[0]["error"]["message"]


def test_a_generator_without_the_model_is_refused_before_any_prompt(
    stub: Stub, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rollouts.jsonl"
    assert run(stub, source, out, model="smollm2") == Exit.UNREACHABLE
    assert "wrong_model: " in capsys.readouterr().err
    assert stub.bodies == []
    assert not out.exists()


def test_a_refused_prompt_is_a_failed_row_and_is_tried_again(
    stub: Stub, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rollouts.jsonl"
    stub.answers = [200, 200, 400]
    assert run(stub, source, out, concurrency=1) == Exit.ROWS_FAILED
    failed = rows_of(out)[2]
    assert failed["error"]["type"] == "http_400"
    assert "responses" not in failed
    assert run(stub, source, out) == Exit.DONE
    assert len(stub.bodies) == 9
    assert all(len(row["responses"]) == 3 for row in rows_of(out))


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (None, "messages: must be a list"),
        ([], "messages: must be a list"),
        ("a text", "messages: must be a list"),
        ([{"role": "poet", "content": "x"}], "message 0: role: "),
        ([{"role": "user", "content": 3}], "message 0: content: Value error, must be a text"),
        ([{"role": "user", "content": "\ud83d"}], "message 0 has a lone surrogate"),
    ],
)
def test_a_prompt_without_proper_messages_fails_alone(
    stub: Stub, tmp_path: Path, messages: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "prompts.jsonl"
    write_rows(source, [{"key": "bad", "messages": messages}, *prompts(1)])
    assert run(stub, source, tmp_path / "out.jsonl") == Exit.ROWS_FAILED
    assert f"key 'bad' failed, invalid_row: {message}" in capsys.readouterr().err
    bad, good = read_rows(tmp_path / "out.jsonl")
    assert bad["error"]["message"].startswith(message)
    assert len(good["responses"]) == 3
    assert len(stub.bodies) == 1


COMMAND = """
import sys
from pathlib import Path
from candor.jobs.rollouts.generate import GenerateOptions, generate
source, out, url = sys.argv[1:]
sys.exit(generate(GenerateOptions(
    prompts=Path(source), out=Path(out), generator_url=url, generator_model="tiny", n=3,
    max_tokens=9, retry_budget_s=10.0)))
"""


def test_killed_and_restarted_it_draws_what_an_undisturbed_run_draws(
    stub: Stub, tmp_path: Path
) -> None:
    source, out = tmp_path / "prompts.jsonl", tmp_path / "rollouts.jsonl"
    write_rows(source, prompts(60))
    undisturbed = tmp_path / "undisturbed.jsonl"
    assert run(stub, source, undisturbed) == Exit.DONE
    stub.delay_s = 0.03
    journal = tmp_path / "rollouts.jsonl.part"
    rng = random.Random(1)
    command = [sys.executable, "-c", COMMAND, str(source), str(out), stub.url]
    for _ in range(3):
        size = journal.stat().st_size if journal.exists() else 0
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        while not (journal.exists() and journal.stat().st_size > size):
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
    subprocess.run(command, cwd=ROOT, check=True, timeout=60, stdout=subprocess.DEVNULL)
    assert out.read_bytes() == undisturbed.read_bytes()
    manifest = json.loads((tmp_path / "rollouts.jsonl.manifest.json").read_bytes())
    assert manifest["counts"] == {"rows": 60, "done": 60, "failed": 0}
