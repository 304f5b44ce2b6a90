"""Which responses are judged, by which judge, and that the labels reach a real server."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
import pytest

from candor.flags import UsageError
from candor.jobs.probe.refresh import read_judged
from candor.jobs.rl.labels.choose import choose
from candor.jobs.rl.labels.judges import JudgeFailed, grounded_judge, url_judge
from candor.jobs.rl.labels.options import LabelOptions, label_hook
from candor.jobs.rl.labels.trickle import ScoredPrompt, Trickle
from candor.probes.kinds.grounded.questions import question_at, shipped_domains
from tests.service.serving import running, tiny_app

PROBE = "sycophancy"


def test_half_is_whole_prompts_at_random_and_half_is_where_r_and_s_disagree() -> None:
    rng = random.Random(0)
    rewards = [[rng.gauss(0, 1) for _ in range(8)] for _ in range(16)]
    scores = [list(group) for group in rewards]
    for place in (3, 7, 11):
        scores[place][2] = rewards[place][2] - 9
    chosen = choose(rewards, scores, 0.25, random.Random(1))
    assert len(chosen.prompts) == 2  # 16 of 128 responses
    assert len(chosen.responses) == 16
    planted = {(3, 2), (7, 2), (11, 2)}
    left = {place for place in planted if place[0] not in chosen.prompts}
    assert left <= set(chosen.responses)
    assert not {group for group, _ in chosen.responses} & set(chosen.prompts)
    # Every prompt is drawn equally often, whatever its scores.
    counts = [0] * 16
    for seed in range(800):
        for place in choose(rewards, scores, 0.25, random.Random(seed)).prompts:
            counts[place] += 1
    assert min(counts) > 60
    assert max(counts) < 145
    assert choose(rewards, scores, 0.0, rng).prompts == []
    everything = choose(rewards, scores, 1.0, rng)
    assert 8 * len(everything.prompts) + len(everything.responses) == 128


def grounded_row() -> dict[str, Any]:
    domain = shipped_domains()[0]
    question = question_at(domain, 0, seed=5)
    return {
        "key": "q",
        "messages": [{"role": "user", "content": question.prompt("wrong", 1)}],
        "meta": {"domain": domain.id, "question": 0, "seed": 5, "stance": "wrong", "wording": 1},
    }


def test_the_grounded_judge_is_the_exact_one() -> None:
    row = grounded_row()
    question = question_at(shipped_domains()[0], 0, seed=5)
    judge = grounded_judge([row])
    replies = [question.claim, question.truth, question.neighbour, "no idea"]
    assert judge([(row["messages"], f"It is {reply}.") for reply in replies]) == [1, 0, 0, 0]
    with pytest.raises(UsageError, match="--judge grounded: key 'q'"):
        grounded_judge([{**row, "meta": {}}])


@pytest.fixture
def http_judge() -> Iterator[tuple[str, list[Any]]]:
    """A judge that says 1 of responses with "sea"; answers what the list holds, where it holds
    something."""
    answers: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            labels = [int("sea" in item["response"]) for item in body["items"]]
            found = json.dumps(answers.pop() if answers else {"labels": labels}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(found)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_judge_behind_a_url_is_asked_and_a_wrong_answer_is_no_label(
    http_judge: tuple[str, list[Any]],
) -> None:
    url, answers = http_judge
    judge = url_judge(url)
    pairs = [([], "the sea"), ([], "a poem")]
    assert judge(pairs) == [1, 0]
    for wrong in ({"labels": [1]}, {"labels": [1, 2]}, {"labels": [True, 0]}, {}, [1, 0]):
        answers.append(wrong)
        with pytest.raises(JudgeFailed, match="--judge-url"):
            judge(pairs)
    with pytest.raises(UsageError, match="--judge-url"):
        url_judge("nowhere")


def prompts() -> list[ScoredPrompt]:
    return [
        ScoredPrompt(
            [{"role": "user", "content": f"Question {n}?"}],
            ["the sea is good", "a poem", "the answer is blue", "thank you"],
            [1.0, 0.5, -0.5, 0.0],
            [0.1 * n, 0.2, 0.3, 0.4],
        )
        for n in range(8)
    ]


def test_the_labels_reach_the_server_and_the_file(
    http_judge: tuple[str, list[Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = url_judge(http_judge[0])
    with running(tiny_app()) as url:
        trickle = Trickle(url, None, judge=judge, rate=0.5, probe=PROBE, out=tmp_path, seed=0)
        trickle.check_access()
        assert trickle.offer(1, prompts()) == 16
        report = httpx2.get(f"{url}/v1/labels").json()
        assert (report["num_rows"], report["num_random"]) == (16, 8)
        assert report["probes"][PROBE]["num_prompts"] == 2
        assert report["probes"]["length"]["num_prompts"] == 0
        http_judge[1].append({})
        assert trickle.offer(2, prompts()) == 0
        assert "step 2: no labels: --judge-url" in capsys.readouterr().err
        trickle.close()
        other = Trickle(url, None, judge=judge, rate=0.5, probe="other", out=tmp_path, seed=0)
        with pytest.raises(UsageError, match="no probe 'other'"):
            other.check_access()
        other.close()
    rows, drawn = read_judged([tmp_path / "labels.jsonl"])
    assert len(rows) == 16
    assert len(drawn) == 2
    assert all(row.label == ("sea" in str(row.response)) for row in rows)


def test_without_the_operators_key_a_run_does_not_begin(tmp_path: Path) -> None:
    options = LabelOptions(label_rate=0.1, judge="grounded")
    with running(tiny_app(api_key="api-key", operator_key="operator-key")) as url:
        for key, good in (("api-key", False), ("operator-key", True)):
            arguments = (options, url, key, [PROBE], [grounded_row()], tmp_path, 0)
            if good:
                on_scored, close = label_hook(*arguments)
                assert on_scored is not None
                close()
            else:
                with pytest.raises(UsageError, match="--label-rate: /v1/labels"):
                    label_hook(*arguments)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"label_rate": 1.5}, "--label-rate 1.5"),
        ({"label_rate": 0.1}, "give one judge"),
        ({"label_rate": 0.1, "judge": "grounded", "judge_url": "http://x"}, "give one judge"),
        ({"judge": "grounded"}, "without a --label-rate"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        LabelOptions(**given)
