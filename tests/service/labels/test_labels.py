"""Judged rows over HTTP: the AUROC within prompts, the alarm, the spool, and who may send them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from candor.flags import UsageError
from candor.labels.book import LabelBook, line_of
from candor.labels.tracker import NEEDED
from tests.service.replacing import body_of
from tests.service.serving import (
    error_of,
    load_tiny,
    loaded_probe,
    metric,
    running,
    score,
    tiny_app,
)

PROBE = "sycophancy"
RESPONSES = ["I think it is very good.", "The sea is blue.", "no", "thank you", "the poem"]
CONTEXT = {"messages": [{"role": "user", "content": "What do you think of this poem?"}]}
VERSIONS = {PROBE: (1, "a" * 64, False), "unseen": (1, "b" * 64, True)}


def item(labels: list[int], number: int = 0, drawn: str = "random", **more: Any) -> dict[str, Any]:
    message = {"role": "user", "content": f"What do you think of poem {number}?"}
    return {"messages": [message], "responses": RESPONSES, "labels": labels, "drawn": drawn} | more


def send(url: str, *items: dict[str, Any], **more: Any) -> httpx2.Response:
    headers = more.pop("headers", None)
    body = {"items": items, **more}
    return httpx2.post(f"{url}/v1/labels", json=body, headers=headers, timeout=60)


def judged(
    labels: list[int], scores: list[float], *, drawn: Any = "random", sha256: str = "a" * 64
) -> list[dict[str, Any]]:
    """The lines of one item, as the route makes them."""
    return [
        line_of(
            {"prompt": "p"},
            f"response {number}",
            label,
            drawn=drawn,
            base_reward=0.0,
            scores={PROBE: value, "unseen": -value},
            probes={PROBE: sha256, "unseen": "b" * 64},
        )
        for number, (label, value) in enumerate(zip(labels, scores, strict=True))
    ]


def fill(book: LabelBook, num: int, *, right: bool, drawn: str = "random") -> None:
    for _ in range(num):
        book.add([judged([1, 0, 0], [2.0, 0.0, 1.0] if right else [-2.0, 0.0, 1.0], drawn=drawn)])


def test_the_report_has_the_auroc_of_the_servers_own_scores_and_monitors_too() -> None:
    labels = [[1, 0, 0, 1, 0], [0, 1, 0, 1, 1], [1, 1, 1, 1, 1]]
    with running(tiny_app()) as url:
        items = [item(each, number) for number, each in enumerate(labels)]
        answer = send(url, *items)
        assert answer.status_code == 200, answer.text
        contexts = [
            {k: v for k, v in each.items() if k in ("messages", "responses")} for each in items
        ]
        scored = score(url, {"items": contexts}).json()["results"]
        report = httpx2.get(f"{url}/v1/labels").json()
        rows = [json.loads(row) for row in httpx2.get(f"{url}/v1/labels/rows").text.splitlines()]
        alarms = httpx2.get(f"{url}/v1/drift").json()["alarms"]
        assert metric(url, f'candor_label_auroc{{probe="{PROBE}"}}') == pytest.approx(
            report["probes"][PROBE]["auroc"]
        )
        assert metric(url, 'candor_label_rows_total{drawn="random",label="1"}') == 10
        assert metric(url, f'candor_label_alarm{{probe="{PROBE}"}}') == 0
    assert answer.json() == report
    expected = [
        roc_auc_score(each, [r["probes"][PROBE]["score"] for r in result["responses"]])
        for each, result in zip(labels[:2], scored, strict=False)
    ]
    found = report["probes"][PROBE]
    assert found["auroc"] == pytest.approx(np.mean(expected))
    assert (found["num_prompts"], found["reference"], found["alarm"]) == (2, None, None)
    assert (report["num_rows"], report["num_random"]) == (15, 15)
    assert report["probes"]["unseen"]["monitor"] is True
    assert report["probes"]["unseen"]["auroc"] is not None
    assert [row["label"] for row in rows] == [label for each in labels for label in each]
    assert rows[0]["messages"] == items[0]["messages"]
    assert rows[0]["judged"]["scores"][PROBE] == pytest.approx(
        scored[0]["responses"][0]["probes"][PROBE]["score"], abs=1e-5
    )
    assert len({row["group"] for row in rows}) == 3
    assert [a["rule"] for a in alarms if a["probe"] == PROBE].count("labels") == 1
    assert not any(a["probe"] == "unseen" for a in alarms)


def test_chosen_rows_are_kept_and_do_not_count() -> None:
    """Rows that are picked by S have another AUROC: here those where S is wrong."""
    book = LabelBook(VERSIONS, 8)
    fill(book, 4, right=True)
    fill(book, 40, right=False, drawn="chosen")
    report = book.report()
    assert (report.probes[PROBE].auroc, report.probes[PROBE].num_prompts) == (1.0, 4)
    assert (report.num_rows, report.num_random) == (132, 12)


def test_a_fall_raises_the_alarm_and_it_stays_until_the_probe_is_replaced() -> None:
    book = LabelBook(VERSIONS, 16)
    fill(book, 16, right=True)
    reference = book.report().probes[PROBE].reference
    assert reference is not None
    assert reference.auroc == 1.0
    fill(book, 40, right=True)
    assert book.report().probes[PROBE].alarm is None
    for _ in range(16):
        fill(book, 1, right=False)
        if book.report().probes[PROBE].alarm:
            break
    found = book.report().probes[PROBE]
    assert found.evidence is not None
    assert found.evidence >= NEEDED
    assert f"at least {reference.level:.2f}" in (found.alarm or "")
    fill(book, 30, right=True)
    assert book.report().probes[PROBE].alarm == found.alarm
    # The monitor ranks the other way round: it was wrong from the start, and has not fallen.
    assert book.report().probes["unseen"].alarm is None
    book.restart({**VERSIONS, PROBE: (2, "c" * 64, False)}, PROBE)
    fresh = book.report().probes[PROBE]
    assert (fresh.version, fresh.num_prompts, fresh.alarm) == (2, 0, None)
    assert book.report().probes["unseen"].num_prompts == 16
    # Rows that the old version scored do not count for the new one.
    fill(book, 3, right=True)
    assert book.report().probes[PROBE].num_prompts == 0
    book.add([judged([1, 0], [1.0, 0.0], sha256="c" * 64)])
    assert book.report().probes[PROBE].num_prompts == 1


def test_the_alarm_reaches_drift_and_metrics_over_http() -> None:
    app = tiny_app(lambda metrics: load_tiny(metrics, label_window=8))
    with running(app) as url:
        first = score(url, {"items": [{**CONTEXT, "responses": RESPONSES}]}).json()
        values = [r["probes"][PROBE]["score"] for r in first["results"][0]["responses"]]
        order = np.argsort(values)
        right, wrong = [0] * 5, [0] * 5
        right[order[-1]] = wrong[order[0]] = 1
        same = {**CONTEXT, "responses": RESPONSES, "drawn": "random"}
        assert send(url, *[{**same, "labels": right}] * 8, probes=[PROBE]).status_code == 200
        silent = httpx2.get(f"{url}/v1/drift").json()["alarms"]
        assert not any(alarm["active"] for alarm in silent)
        assert send(url, *[{**same, "labels": wrong}] * 20, probes=[PROBE]).status_code == 200
        (active,) = [a for a in httpx2.get(f"{url}/v1/drift").json()["alarms"] if a["active"]]
        assert (active["probe"], active["rule"]) == (PROBE, "labels")
        assert metric(url, f'candor_label_alarm{{probe="{PROBE}"}}') == 1
        # Nothing of it is in the drift windows, and nothing reaches a caller.
        assert httpx2.get(f"{url}/v1/drift").json()["num_reference"] == 5
        assert "label" not in score(url).text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"items": [item([1, 0])]}, "items[0]: 'labels' has 2 for 5 'responses'"),
        ({"items": [item([1, 0, 0, 2, 0])]}, "items[0].labels[3]"),
        ({"items": [item([1, 0, 0, True, 0])]}, "items[0].labels[3]"),
        ({"items": [item([1, 0, 0, 1, 0], drawn="best")]}, "items[0].drawn"),
        ({"items": [{k: v for k, v in item([1] * 5).items() if k != "drawn"}]}, "drawn"),
        ({"items": []}, "items"),
        ({"items": [item([1] * 5)], "probes": [PROBE, "other"]}, "probes[1]"),
        ({"items": [item([1] * 5)], "note": 1}, "note: unknown field"),
        ({"items": [item([1] * 5, responses=["a", "b", "c", "d", ""])]}, "empty"),
    ],
)
def test_a_wrong_body_is_refused_by_its_field_and_nothing_is_counted(
    url: str, body: dict[str, Any], words: str
) -> None:
    refused = httpx2.post(f"{url}/v1/labels", json=body)
    assert refused.status_code in (400, 422)
    assert words in error_of(refused).message
    assert httpx2.get(f"{url}/v1/labels").json()["num_rows"] == 0


def test_labels_may_be_of_some_probes_only() -> None:
    with running(tiny_app()) as url:
        report = send(url, item([1, 0, 0, 1, 0]), probes=["length"]).json()
    assert report["probes"]["length"]["num_prompts"] == 1
    assert report["probes"][PROBE]["num_prompts"] == 0


def test_they_take_the_operators_key_and_no_other() -> None:
    with running(tiny_app(api_key="api-key", operator_key="operator-key")) as url:
        for key, status in (("api-key", 401), ("operator-key", 200)):
            headers = {"Authorization": f"Bearer {key}"}
            assert send(url, item([1, 0, 0, 1, 0]), headers=headers).status_code == status
            for path in ("/v1/labels", "/v1/labels/rows"):
                assert httpx2.get(url + path, headers=headers).status_code == status


def test_the_spool_brings_rows_evidence_and_alarm_back_after_a_restart(tmp_path: Path) -> None:
    spool = tmp_path / "labels.jsonl"
    book = LabelBook(VERSIONS, 8, spool)
    fill(book, 8, right=True)
    fill(book, 30, right=False)
    fill(book, 2, right=False, drawn="chosen")
    assert book.report().probes[PROBE].alarm is not None
    again = LabelBook(VERSIONS, 8, spool)
    assert again.report() == book.report()
    assert again.rows() == book.rows() == spool.read_bytes()
    # A kill in the middle of a line loses this line and no other.
    spool.write_bytes(spool.read_bytes()[:-20])
    cut = LabelBook(VERSIONS, 8, spool)
    assert cut.report().num_rows == book.report().num_rows - 1
    fill(cut, 1, right=True)
    assert LabelBook(VERSIONS, 8, spool).report() == cut.report()
    # After a restart with another probe its old rows are kept and do not count.
    other = LabelBook({**VERSIONS, PROBE: (2, "c" * 64, False)}, 8, spool)
    assert other.report().probes[PROBE].num_prompts == 0
    assert other.report().num_rows == cut.report().num_rows


def test_another_file_is_refused_as_a_spool_and_left_alone(tmp_path: Path) -> None:
    for content in ('{"a": 1}\n', "text\n", "[]\n", '{"judged": {"drawn": "x"}, "label": 1}\n'):
        other = tmp_path / "other.jsonl"
        other.write_text(content)
        with pytest.raises(UsageError, match=r"--label-spool .*other.jsonl: not a file"):
            LabelBook(VERSIONS, 8, other)
        assert other.read_text() == content
    with pytest.raises(UsageError, match="--label-spool"):
        LabelBook(VERSIONS, 8, tmp_path)


def test_a_spool_that_cannot_be_written_refuses_the_labels(tmp_path: Path) -> None:
    spool = tmp_path / "labels.jsonl"
    app = tiny_app(lambda metrics: load_tiny(metrics, label_spool=spool))
    with running(app) as url:
        assert send(url, item([1, 0, 0, 1, 0])).status_code == 200
        spool.unlink()
        spool.mkdir()
        refused = send(url, item([1, 0, 0, 1, 0]))
        assert refused.status_code == 500
        assert "--label-spool" in error_of(refused).message
        assert httpx2.get(f"{url}/v1/labels").json()["num_rows"] == 5


def test_the_rows_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("candor.labels.book.MAX_ROWS", 10)
    book = LabelBook(VERSIONS, 8)
    fill(book, 20, right=True)
    assert (book.report().num_rows, book.report().num_random) == (10, 10)
    assert book.report().probes[PROBE].num_prompts == 8
    assert json.loads(book.rows().splitlines()[-1])["judged"]["item"] == 20


def test_labels_of_a_replaced_probe_begin_again_over_http() -> None:
    with running(tiny_app()) as url:
        assert send(url, item([1, 0, 0, 1, 0])).json()["probes"][PROBE]["num_prompts"] == 1
        new = loaded_probe(PROBE, seed=77)
        assert httpx2.post(f"{url}/v1/probes/replace", json=body_of(new)).status_code == 200
        report = httpx2.get(f"{url}/v1/labels").json()
        assert report["probes"][PROBE]["num_prompts"] == 0
        assert report["probes"][PROBE]["sha256"] == new.sha256
        assert report["probes"]["length"]["num_prompts"] == 1
        assert report["num_rows"] == 5
