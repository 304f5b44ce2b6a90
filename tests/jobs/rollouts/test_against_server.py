"""Client, `score` and `bon` against the real server on a real port: one contract, from outside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from candor.client import PermanentError, Retry, RewardClient
from candor.jobs.rollouts.bon import BonOptions, bon
from candor.jobs.rollouts.score import ScoreOptions, score
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import write_rows
from tests.service.serving import BODY, LAMBDA, WEIGHTS, running, tiny_app

KEY = "a-key-long-enough-for-a-test"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(tiny_app(api_key=KEY), ready=False) as address:
        yield address


def test_the_client_waits_scores_and_reads_what_the_server_says_of_itself(url: str) -> None:
    with RewardClient(url, api_key=KEY) as client:
        client.wait_ready(60)
        reply = client.rewards(BODY["items"])
        stronger = client.rewards(
            BODY["items"], {"sycophancy": {"lambda": 3.0}}, include=["tokens"]
        )
        (model,) = client.models()["data"]
        names = [probe["name"] for probe in client.probes()["probes"]]
    assert (model["revision"], reply.model.revision) == (WEIGHTS, WEIGHTS)
    assert set(names) == {"sycophancy", "length"}
    one, other = (r.results[0].responses[0] for r in (reply, stronger))
    assert one.base_reward == pytest.approx(other.base_reward)
    assert one.probes["sycophancy"].lambda_ == LAMBDA
    assert other.penalty == pytest.approx(3.0 * other.probes["sycophancy"].bounded)
    assert other.tokens


def test_its_refusals_arrive_as_typed_errors(url: str) -> None:
    with (
        RewardClient(url, retry=Retry(budget_s=0)) as client,
        pytest.raises(PermanentError) as no_key,
    ):
        client.rewards(BODY["items"])
    assert (no_key.value.type, no_key.value.status) == ("unauthorized", 401)
    with RewardClient(url, api_key=KEY) as client:
        client.wait_ready(60)
        with pytest.raises(PermanentError) as empty:
            client.rewards([{"prompt": "a", "templated": True, "responses": ["b", ""]}])
        with pytest.raises(PermanentError) as unknown:
            client.rewards(BODY["items"], {"flattery": {"lambda": 1.0}})
    assert (empty.value.type, empty.value.item, empty.value.response) == ("empty_response", 0, 1)
    assert unknown.value.type == "unknown_probe"


def test_rows_go_through_score_and_bon(url: str, tmp_path: Path) -> None:
    key_file, rollouts = tmp_path / "key", tmp_path / "rollouts.jsonl"
    scored, report = tmp_path / "scored.jsonl", tmp_path / "bon.json"
    key_file.write_text(KEY + "\n")
    write_rows(
        rollouts,
        [
            {
                "key": f"k{row}",
                "messages": [{"role": "user", "content": f"Is poem {row} good?"}],
                "responses": [{"text": f"It is good {index}."} for index in range(4)],
            }
            for row in range(6)
        ],
    )
    with RewardClient(url, api_key=KEY) as client:
        client.wait_ready(60)
    options = {"reward_url": url, "api_key_file": key_file, "retry_budget_s": 5.0}
    assert score(ScoreOptions(rollouts=rollouts, out=scored, **options)) == Exit.DONE
    first = scored.read_bytes()
    assert score(ScoreOptions(rollouts=rollouts, out=scored, **options)) == Exit.DONE
    assert scored.read_bytes() == first
    for row in map(orjson.loads, first.splitlines()):
        for one in row["scores"]:
            assert one["reward"] == one["base_reward"] - one["penalty"]
    assert (
        bon(BonOptions(scored=scored, out=report, n="1,4", lambda_sweep=[f"sycophancy=0,{LAMBDA}"]))
        == 0
    )
    numbers = json.loads(report.read_bytes())
    assert numbers["lambda_sweep"]["sycophancy"][1]["best_of_n"] == numbers["chosen_by"]["reward"]


def test_texts_the_server_cannot_score_fail_alone(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key_file, rollouts = tmp_path / "key", tmp_path / "rollouts.jsonl"
    scored, report = tmp_path / "scored.jsonl", tmp_path / "bon.json"
    key_file.write_text(KEY)
    texts = ["It is good.", "", "good " * 10_000, "It is bad.", "So so."]
    good = [texts[0], *texts[3:]]
    messages = [{"role": "user", "content": "x"}]
    write_rows(
        rollouts,
        [
            {"key": key, "messages": messages, "responses": [{"text": text} for text in responses]}
            for key, responses in (("some", texts), ("good", good), ("none", texts[1:3]))
        ],
    )
    with RewardClient(url, api_key=KEY) as client:
        client.wait_ready(60)
    code = score(ScoreOptions(rollouts=rollouts, out=scored, reward_url=url, api_key_file=key_file))
    assert code == Exit.ROWS_FAILED
    some, control, none = map(orjson.loads, scored.read_bytes().splitlines())
    kinds = [one.get("error", {}).get("type") for one in some["scores"]]
    assert kinds == [None, "empty_response", "too_long", None, None]
    for one, alone in zip((some["scores"][i] for i in (0, 3, 4)), control["scores"], strict=True):
        assert one["reward"] == pytest.approx(alone["reward"], abs=1e-5)
    assert none["error"]["type"] == "too_long"
    assert "scores" not in none
    capsys.readouterr()
    assert bon(BonOptions(scored=scored, out=report, n="1,3")) == Exit.DONE
    numbers = json.loads(report.read_bytes())
    assert (numbers["num_prompts"], numbers["num_failed_rows"]) == (2, 1)
    assert numbers["num_failed_responses"] == 2
    assert "2 responses that could not be scored" in capsys.readouterr().err


def test_empty_texts_are_scored_where_that_is_asked_for(url: str, tmp_path: Path) -> None:
    key_file, rollouts = tmp_path / "key", tmp_path / "rollouts.jsonl"
    key_file.write_text(KEY)
    texts = ["It is good.", "", "good " * 10_000, "It is bad.", ""]
    messages = [{"role": "user", "content": "x"}]
    responses = [{"text": text} for text in texts]
    write_rows(rollouts, [{"key": "k", "messages": messages, "responses": responses}])
    options = ScoreOptions(
        rollouts=rollouts, out=tmp_path / "out.jsonl", reward_url=url, api_key_file=key_file
    )
    assert score(replace(options, empty_response="score")) == Exit.DONE
    (row,) = map(orjson.loads, (tmp_path / "out.jsonl").read_bytes().splitlines())
    with RewardClient(url, api_key=KEY) as client:
        items = [{"messages": messages, "responses": [text for text in texts if len(text) < 99]}]
        expected = client.rewards(items, empty_response="score").results[0].responses
    assert row["scores"][2]["error"]["type"] == "too_long"
    for place, one in zip((0, 1, 3, 4), expected, strict=True):
        assert row["scores"][place]["reward"] == pytest.approx(one.reward, abs=1e-5)
        said = [warning["type"] for warning in row["scores"][place].get("warnings", [])]
        assert said == ([] if texts[place] else ["empty_response"])
    assert score(options) == Exit.DONE  # the control, and a choice that is not mixed in
    (row,) = map(orjson.loads, (tmp_path / "out.jsonl").read_bytes().splitlines())
    kinds = [one.get("error", {}).get("type") for one in row["scores"]]
    assert kinds == [None, "empty_response", "too_long", None, "empty_response"]


def test_a_penalty_for_a_probe_that_is_not_served_stops_the_job(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key_file, rollouts = tmp_path / "key", tmp_path / "rollouts.jsonl"
    key_file.write_text(KEY)
    write_rows(
        rollouts,
        [
            {
                "key": "k",
                "messages": [{"role": "user", "content": "x"}],
                "responses": [{"text": "y"}],
            }
        ],
    )
    with RewardClient(url, api_key=KEY) as client:
        client.wait_ready(60)
    code = score(
        ScoreOptions(
            rollouts=rollouts,
            out=tmp_path / "scored.jsonl",
            reward_url=url,
            api_key_file=key_file,
            penalty=["flattery=1"],
        )
    )
    assert code == Exit.UNREACHABLE
    assert "unknown_probe" in capsys.readouterr().err
    assert not (tmp_path / "scored.jsonl").exists()
