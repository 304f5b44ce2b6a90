"""`candor score`: rows become scores, failures are named, a kill changes nothing in the end."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from candor.jobs.rollouts.score import ScoreOptions, score
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import write_rows
from tests.client.replies import numbers
from tests.jobs.stub import Stub, rollouts, rows_of
from tests.paths import ROOT

CONCURRENCY = 4


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rollouts.jsonl"
    write_rows(path, rollouts(10))
    return path


def run(stub: Stub, source: Path, out: Path, **options: Any) -> int:
    return score(
        ScoreOptions(rollouts=source, out=out, reward_url=stub.url, retry_budget_s=0.0, **options)
    )


def test_every_response_gets_the_servers_numbers_in_order(
    stub: Stub, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scored.jsonl"
    assert run(stub, source, out) == Exit.DONE
    for given, row in zip(rollouts(10), rows_of(out), strict=True):
        assert row["scores"] == [numbers(r["text"], 0.5) for r in given["responses"]]
        assert {name: row[name] for name in given} == given
        assert row["reward_model"] == {
            "id": "tiny",
            "revision": stub.revision,
            "formula": "R - 0.5*S",
            "combine": {"kind": "sum", "spread_weight": 1.0},
            "methods": {},  # this server says nothing of methods and versions
            "probes": {},
            "probes_sha256": None,
            "penalties": {},
        }
    assert len(stub.bodies) == 10
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last == {"out": str(out), "done": 10, "failed": 0, "new": 10}


def test_the_manifest_says_where_the_output_came_from(
    stub: Stub, source: Path, tmp_path: Path
) -> None:
    import hashlib

    out = tmp_path / "scored.jsonl"
    run(stub, source, out, penalty=["sycophancy=2"])
    path = tmp_path / "scored.jsonl.manifest.json"
    manifest = json.loads(path.read_bytes())
    assert manifest["inputs"]["rows"]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert manifest["output"]["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert manifest["settings"]["penalties"] == {"sycophancy": {"lambda": 2.0}}
    assert manifest["settings"]["reward_url"] == stub.url
    (model,) = manifest["server"]["models"]
    assert (model["id"], model["revision"]) == ("tiny", stub.revision)
    assert "created" not in model
    assert manifest["server"]["probes"] == {"probes": [{"name": "sycophancy", "lambda": 0.5}]}
    assert manifest["counts"] == {"rows": 10, "done": 10, "failed": 0}
    assert manifest["packages"]["httpx2"]
    assert manifest["machine"]["num_cpus"] >= 1
    assert manifest["started"] <= manifest["finished"]
    before = path.read_bytes()
    run(stub, source, out, penalty=["sycophancy=2"])
    assert path.read_bytes() == before  # a run that changed nothing does not claim the output


def test_a_finished_job_run_again_asks_for_nothing(
    stub: Stub, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scored.jsonl"
    run(stub, source, out)
    content = out.read_bytes()
    assert run(stub, source, out) == Exit.DONE
    assert len(stub.bodies) == 10
    assert out.read_bytes() == content


def test_a_penalty_given_is_sent_and_other_penalties_are_never_mixed_in(
    stub: Stub, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scored.jsonl"
    run(stub, source, out)
    assert run(stub, source, out, penalty=["sycophancy=2"]) == Exit.DONE
    assert "10 rows of another input, setting or model are done again" in capsys.readouterr().err
    lambdas = {one["probes"]["sycophancy"]["lambda"] for r in rows_of(out) for one in r["scores"]}
    assert lambdas == {2.0}


def test_a_server_with_other_weights_scores_everything_anew(
    stub: Stub, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scored.jsonl"
    run(stub, source, out)
    stub.revision = "cd" * 32
    assert run(stub, source, out) == Exit.DONE
    assert {row["reward_model"]["revision"] for row in rows_of(out)} == {"cd" * 32}


def test_only_the_row_whose_input_changed_is_scored_again(
    stub: Stub, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scored.jsonl"
    run(stub, source, out)
    changed = rollouts(10)
    changed[3]["responses"][0]["text"] = "Another answer."
    write_rows(source, changed)
    assert run(stub, source, out) == Exit.DONE
    assert len(stub.bodies) == 11
    assert rows_of(out)[3]["scores"][0] == numbers("Another answer.", 0.5)


def test_a_refused_row_is_written_as_failed_and_tried_again_by_the_next_run(
    stub: Stub, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scored.jsonl"
    given = rollouts(10)
    stub.refused_texts = {given[4]["responses"][1]["text"]}
    stub.names_response = False
    assert run(stub, source, out) == Exit.ROWS_FAILED
    failed = rows_of(out)[4]
    assert "scores" not in failed
    assert "0.0" not in json.dumps(failed)
    assert failed["error"]["type"] == "too_long"
    assert {name: failed[name] for name in given[4]} == given[4]
    assert sum("scores" in row for row in rows_of(out)) == 9

    stub.bodies.clear()
    assert run(stub, source, out) == Exit.ROWS_FAILED
    assert len(stub.bodies) == 1
    stub.refused_texts.clear()
    assert run(stub, source, out) == Exit.DONE
    assert len(stub.bodies) == 2
    assert all("scores" in row and "error" not in row for row in rows_of(out))


def test_a_refused_response_alone_fails_and_the_rest_of_its_row_is_scored(
    stub: Stub, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, untouched = tmp_path / "scored.jsonl", tmp_path / "untouched.jsonl"
    assert run(stub, source, untouched) == Exit.DONE
    assert "could not be scored" not in capsys.readouterr().err
    stub.bodies.clear()
    given = rollouts(10)
    texts = [response["text"] for response in given[4]["responses"]]
    stub.refused_texts = {texts[0], texts[2]}
    assert run(stub, source, out) == Exit.DONE
    assert "2 responses of scored rows could not be scored" in capsys.readouterr().err
    rows = rows_of(out)
    first, scored, last = rows[4]["scores"]
    assert scored == numbers(texts[1], 0.5)
    for place, failed in ((0, first), (2, last)):  # by the row's count, not the last request's
        message = f"422 too_long: cut it (item 0, response {place})"
        assert failed == {"error": {"type": "too_long", "message": message}}
    assert "error" not in rows[4]
    assert rows[:4] + rows[5:] == [r for i, r in enumerate(rows_of(untouched)) if i != 4]
    asked = [
        body["items"][0]["responses"]
        for body in stub.bodies
        if body["items"][0]["messages"] == given[4]["messages"]
    ]
    assert asked == [texts, texts[1:], texts[1:2]]
    assert run(stub, source, out) == Exit.DONE  # such a row is done
    assert len(stub.bodies) == 12


def test_a_row_fails_with_the_last_error_when_every_response_is_refused(
    stub: Stub, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scored.jsonl"
    stub.refused_texts = {response["text"] for response in rollouts(10)[4]["responses"]}
    assert run(stub, source, out) == Exit.ROWS_FAILED
    failed = rows_of(out)[4]
    assert "scores" not in failed
    assert failed["error"]["message"] == "422 too_long: cut it (item 0, response 2)"
    assert len(stub.bodies) == 9 + 3  # at most one request a response


def test_an_empty_text_is_never_sent(stub: Stub, tmp_path: Path) -> None:
    good, one_empty, all_empty = rollouts(3)
    one_empty["responses"][1]["text"] = ""
    for response in all_empty["responses"]:
        response["text"] = ""
    source, out = tmp_path / "rollouts.jsonl", tmp_path / "scored.jsonl"
    write_rows(source, [good, one_empty, all_empty])
    assert run(stub, source, out) == Exit.ROWS_FAILED
    rows = rows_of(out)
    kinds = [[one.get("error", {}).get("type") for one in row["scores"]] for row in rows[:2]]
    assert kinds == [[None, None, None], [None, "empty_response", None]]
    assert rows[1]["scores"][2] == numbers(one_empty["responses"][2]["text"], 0.5)
    assert rows[2]["error"]["type"] == "empty_response"
    assert "scores" not in rows[2]
    assert len(stub.bodies) == 2
    assert all(body["items"][0]["responses"].count("") == 0 for body in stub.bodies)


def test_a_server_that_goes_away_between_two_requests_of_a_row_leaves_the_row_undone(
    stub: Stub, tmp_path: Path
) -> None:
    source, out = tmp_path / "rollouts.jsonl", tmp_path / "scored.jsonl"
    write_rows(source, rollouts(1))
    stub.refused_texts = {rollouts(1)[0]["responses"][0]["text"]}
    stub.answers = [200, 503]
    assert run(stub, source, out) == Exit.UNREACHABLE
    assert not out.exists()
    assert run(stub, source, out) == Exit.DONE
    assert ["error" in one for one in rows_of(out)[0]["scores"]] == [True, False, False]


def test_rows_that_cannot_be_asked_for_fail_without_a_request(stub: Stub, tmp_path: Path) -> None:
    good, no_texts, failed_before, empty, wrong = rollouts(5)
    del no_texts["responses"]
    failed_before["error"] = {"type": "too_long", "message": "x"}
    empty["responses"] = []
    wrong["responses"] = [{"said": "no text"}]
    source = tmp_path / "rollouts.jsonl"
    write_rows(source, [good, no_texts, failed_before, empty, wrong])
    out = tmp_path / "scored.jsonl"
    assert run(stub, source, out) == Exit.ROWS_FAILED
    types = [row.get("error", {}).get("type") for row in rows_of(out)]
    assert types == [None, "no_responses", "no_responses", "no_responses", "invalid_row"]
    assert len(stub.bodies) == 1


def test_a_server_that_goes_away_stops_the_job_and_finished_rows_are_kept(
    stub: Stub, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scored.jsonl"
    stub.answers = [200] * 6 + [503] * 100
    assert run(stub, source, out, concurrency=1) == Exit.UNREACHABLE
    assert "503" in capsys.readouterr().err
    assert not out.exists()
    kept = rows_of(tmp_path / "scored.jsonl.part")
    assert len(kept) == 6
    assert all("scores" in row for row in kept)
    stub.answers = []
    stub.bodies.clear()
    assert run(stub, source, out, concurrency=1) == Exit.DONE
    assert len(stub.bodies) == 4


@pytest.mark.parametrize("status", [401, 404])
def test_a_wrong_set_up_stops_the_job_instead_of_failing_every_row(
    stub: Stub, source: Path, tmp_path: Path, status: int
) -> None:
    stub.answers = [status] * 100
    assert run(stub, source, tmp_path / "scored.jsonl") == Exit.UNREACHABLE
    assert not (tmp_path / "scored.jsonl").exists()


def test_nothing_listening_is_exit_69_with_the_address(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    code = score(
        ScoreOptions(rollouts=source, out=tmp_path / "s.jsonl", reward_url=url, retry_budget_s=0)
    )
    assert code == Exit.UNREACHABLE
    assert f"no answer from GET {url}/v1/models" in capsys.readouterr().err


def test_wrong_arguments_are_exit_2_and_touch_nothing(
    stub: Stub, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scored.jsonl"
    before = source.read_bytes()
    for wrong in ("sycophancy", "=1", "sycophancy=-1", "sycophancy=nan", "sycophancy=much"):
        assert run(stub, source, out, penalty=[wrong]) == Exit.USAGE
        assert f"--penalty {wrong}" in capsys.readouterr().err
    assert run(stub, source, out, penalty=["a=1", "a=2"]) == Exit.USAGE
    assert run(stub, source, out, penalty=["a=1"], kappa=["a=2"]) == Exit.USAGE
    assert "probe 'a' is given two strengths" in capsys.readouterr().err
    assert run(stub, source, source) == Exit.USAGE
    assert run(stub, tmp_path / "absent.jsonl", out) == Exit.USAGE
    assert run(stub, source, out, api_key_file=tmp_path / "absent") == Exit.USAGE
    assert score(ScoreOptions(rollouts=source, out=out, reward_url="localhost:8000")) == Exit.USAGE
    assert source.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["rollouts.jsonl"]
    assert stub.bodies == []


# --- killed jobs --------------------------------------------------------------------------------

COMMAND = """
import sys
from pathlib import Path
from candor.jobs.rollouts.score import ScoreOptions, score
source, out, url, concurrency = sys.argv[1:]
sys.exit(score(ScoreOptions(
    rollouts=Path(source), out=Path(out), reward_url=url, concurrency=int(concurrency),
    retry_budget_s=10.0)))
"""


def start(stub: Stub, source: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(source), str(out), stub.url, str(CONCURRENCY)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for_growth(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the process has written to the journal (or has ended)."""
    size = path.stat().st_size if path.exists() else 0
    give_up = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < give_up:
        if path.exists() and path.stat().st_size > size:
            return
        time.sleep(0.002)


def test_killed_five_times_at_random_moments_the_output_is_that_of_an_undisturbed_run(
    stub: Stub, tmp_path: Path
) -> None:
    num_rows, num_kills = 80, 5
    source, out = tmp_path / "rollouts.jsonl", tmp_path / "scored.jsonl"
    write_rows(source, rollouts(num_rows))
    undisturbed = tmp_path / "undisturbed.jsonl"
    assert run(stub, source, undisturbed) == Exit.DONE
    stub.bodies.clear()
    stub.delay_s = 0.02
    journal = tmp_path / "scored.jsonl.part"
    rng = random.Random(0)
    for _ in range(num_kills):
        process = start(stub, source, out)
        wait_for_growth(journal, process)
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
        assert not out.exists()
    assert start(stub, source, out).wait(60) == Exit.DONE
    assert out.read_bytes() == undisturbed.read_bytes()
    assert len({row["key"] for row in rows_of(out)}) == num_rows
    assert not journal.exists()
    # what was finished was not asked for again: at most the rows in flight of each kill
    asked = Counter(body["items"][0]["messages"][0]["content"] for body in stub.bodies)
    assert len(asked) == num_rows
    assert num_rows < asked.total() <= num_rows + num_kills * CONCURRENCY


def test_interrupted_once_the_rows_in_flight_are_finished_and_the_next_run_goes_on(
    stub: Stub, tmp_path: Path
) -> None:
    source, out = tmp_path / "rollouts.jsonl", tmp_path / "scored.jsonl"
    write_rows(source, rollouts(60))
    stub.delay_s = 0.05
    process = start(stub, source, out)
    wait_for_growth(tmp_path / "scored.jsonl.part", process)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == Exit.INTERRUPTED
    kept = rows_of(tmp_path / "scored.jsonl.part")
    assert 0 < len(kept) < 60
    assert len(kept) == len(stub.bodies)  # nothing in flight was thrown away
    stub.delay_s = 0.0
    assert run(stub, source, out) == Exit.DONE
    assert len(stub.bodies) == 60
    assert len(rows_of(out)) == 60


def test_a_server_that_flaps_costs_retries_and_no_rows(stub: Stub, tmp_path: Path) -> None:
    source, out = tmp_path / "rollouts.jsonl", tmp_path / "scored.jsonl"
    write_rows(source, rollouts(12))
    stub.answers = [200, 503, 502, 200, 504, 200, 200, 503]
    code = score(
        ScoreOptions(
            rollouts=source, out=out, reward_url=stub.url, concurrency=4, retry_budget_s=60
        )
    )
    assert code == Exit.DONE
    assert len(stub.bodies) == 16
    assert all("scores" in row for row in rows_of(out))


def test_a_table_of_preferences_is_scored_and_the_terminal_says_how_it_was_read(
    stub: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "pairs.csv", tmp_path / "scored.jsonl"
    source.write_text("prompt,chosen,rejected,topic\nIs it?,Yes.,No.,sea\nWhy?,So.,Not so.,sky\n")
    assert run(stub, source, out) == Exit.DONE
    (asked,) = stub.bodies[0]["items"]
    assert asked["messages"] == [{"role": "user", "content": "Is it?"}]
    assert asked["responses"] == ["Yes.", "No."]
    first, second = rows_of(out)
    assert [one["reward"] for one in first["scores"]] == [
        numbers(text, 0.5)["reward"] for text in ("Yes.", "No.")
    ]
    assert first["responses"][1] == {"text": "No.", "chosen": False}
    assert second["meta"] == {"topic": "sky"}
    told = capsys.readouterr().err
    assert "pairs.csv: 2 rows (TRL preference); keys: hashes of the rows; 2 prompts are" in told
    stub.bodies.clear()
    assert run(stub, source, out) == Exit.DONE  # hashes stay: nothing is scored again
    assert stub.bodies == []


def test_prompts_without_responses_are_refused_before_the_server_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "prompts.jsonl"
    source.write_text('{"prompt": "Is it?"}\n')
    nobody = ScoreOptions(
        rollouts=source, out=tmp_path / "out.jsonl", reward_url="http://127.0.0.1:9"
    )
    assert score(nobody) == Exit.USAGE
    assert "none of 1 rows has responses: sample some with candor generate" in (
        capsys.readouterr().err
    )


def test_why_a_row_cannot_be_read_is_in_its_failed_row(stub: Stub, tmp_path: Path) -> None:
    source, out = tmp_path / "rows.jsonl", tmp_path / "scored.jsonl"
    source.write_text(
        '{"prompt": "Is it?", "response": "Yes."}\n{"prompt": "", "response": "No."}\n'
    )
    assert run(stub, source, out) == Exit.ROWS_FAILED
    good, bad = rows_of(out)
    assert "error" not in good
    assert bad["error"]["type"] == "no_responses"
    assert "rows.jsonl:2: (prompt and response) 'prompt' is empty" in bad["error"]["message"]
