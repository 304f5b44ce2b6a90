"""`candor probe refresh` and `candor probe replace` against a real server: judged rows out of the
server, a new version fitted on them, and handed back to it.

Old rows show the trait by "thank"; the judged rows, which the old probe ranks wrongly, by "sea".
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from candor.jobs.probe.handover import ReplaceOptions, replace
from candor.jobs.probe.refresh import RefreshOptions, refresh
from candor.jobs.probe.train import train
from candor.jobs.probe.training.options import TrainOptions
from candor.jobs.running.exits import Exit
from candor.probes import artifact
from tests.serve_process import ServeProcess
from tests.tiny import save_tiny, tiny_llama, tiny_tokenizer

WORDS = ["the", "poem", "is", "about", "and", "answer", "good", "blue", "what"]


def line(rng: random.Random, group: int, label: int, shown: str, hidden: str) -> dict[str, Any]:
    words = rng.choices(WORDS, k=rng.randint(5, 9))
    words[rng.randrange(len(words))] = shown if label else hidden
    return {
        "label": label,
        "response": " ".join(words),
        "messages": [{"role": "user", "content": f"question {shown} {group}?"}],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FOLDER/model, FOLDER/old.jsonl and FOLDER/probe, fitted on it."""
    folder = tmp_path_factory.mktemp("refresh")
    save_tiny(folder / "model", tiny_llama(), tiny_tokenizer())
    rng = random.Random(0)
    rows = [
        {"group": f"g{group}", "kind": "old", **line(rng, group, label, "thank", "you")}
        for group in range(24)
        for label in (0, 1, 0, 1)
    ]
    (folder / "old.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = TrainOptions(
        data=[folder / "old.jsonl"],
        model=str(folder / "model"),
        out=folder / "probe",
        name="thanks",
        trait="The reply thanks.",
        layers="1",
    )
    assert train(options) == 0
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServeProcess]:
    served = ServeProcess(
        folder, f"--probe={folder / 'probe'}", "--kappa=thanks=1", "--label-window=8"
    )
    served.wait_ready()
    yield served
    served.stop()


def judged_items(num: int = 40) -> list[dict[str, Any]]:
    """Label 1 says "sea"; label 0 says "thank", which the old probe takes for the trait."""
    rng = random.Random(1)
    items = []
    for group in range(num):
        rows = [line(rng, group, label, "sea", "thank") for label in (0, 1, 0, 1)]
        items.append(
            {
                "messages": rows[0]["messages"],
                "responses": [row["response"] for row in rows],
                "labels": [row["label"] for row in rows],
                "drawn": "random" if group % 4 else "chosen",
            }
        )
    return items


def options(folder: Path, out: Path, labels: Path, **more: Any) -> RefreshOptions:
    return RefreshOptions(
        probe=folder / "probe",
        labels=[labels],
        data=[folder / "old.jsonl"],
        model=str(folder / "model"),
        out=out,
        **more,
    )


def test_rows_out_of_the_server_become_the_version_that_it_serves(
    folder: Path, server: ServeProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = judged_items()
    answer = httpx2.post(f"{server.url}/v1/labels", json={"items": items}, timeout=60)
    assert answer.status_code == 200, answer.text
    (labels := tmp_path / "labels.jsonl").write_bytes(
        httpx2.get(f"{server.url}/v1/labels/rows").content
    )
    capsys.readouterr()
    assert refresh(options(folder, tmp_path / "new", labels, reward_url=server.url)) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    old, new = artifact.load(folder / "probe"), artifact.load(tmp_path / "new")
    assert new.card.lineage is not None
    assert (new.card.version, new.card.lineage.parent_sha256) == (2, old.sha256)
    assert new.card.lineage.num_labels == 160
    assert (new.card.layer, new.card.pooling, new.card.bound.kind) == (1, "mean", "hinge")
    assert new.card.data.kinds == {"judged": 160, "old": 96}  # no more than there are
    assert line["sha256"] == new.sha256
    assert line["judged_within_prompt_auroc_before"] < 0.4
    assert line["judged_within_prompt_auroc"] > 0.8
    assert line["served"]["now"] == {"version": 2, "sha256": new.sha256}
    assert line["served"]["before"] == {"version": 1, "sha256": old.sha256}
    listed = httpx2.get(f"{server.url}/v1/probes").json()["probes"][0]
    assert (listed["version"], listed["sha256"]) == (2, new.sha256)
    # The same rows, judged again, are ranked rightly by the version that is served now.
    report = httpx2.post(f"{server.url}/v1/labels", json={"items": items}, timeout=60).json()
    assert report["probes"]["thanks"]["version"] == 2
    assert report["probes"]["thanks"]["auroc"] > 0.9
    # And back to the old one, as `candor probe replace` does.
    assert replace(ReplaceOptions(probe=folder / "probe", reward_url=server.url)) == 0
    assert json.loads(capsys.readouterr().out)["now"]["version"] == 1


def test_the_share_of_old_rows_is_drawn_by_whole_groups(folder: Path, tmp_path: Path) -> None:
    rows = [
        {"group": f"{n}", "label": label, "prompt": "p", "templated": True, "response": "good sea"}
        | line(random.Random(n), n, label, "sea", "you")
        | {"prompt": None, "templated": None}
        for n in range(12)
        for label in (0, 1)
    ]
    (labels := tmp_path / "labels.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert refresh(options(folder, tmp_path / "half", labels)) == 0
    card = artifact.load(tmp_path / "half").card
    assert card.data.kinds == {"judged": 24, "old": 24}
    assert refresh(options(folder, tmp_path / "again", labels)) == 0
    assert artifact.load(tmp_path / "again").card.data.sha256 == card.data.sha256
    assert (
        artifact.load(tmp_path / "again").probe.weight.tolist()
        == artifact.load(tmp_path / "half").probe.weight.tolist()
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no rows"),
        ('{"label": 1}\n', r"labels.jsonl:1: group"),
        ("3\n", r"labels.jsonl:1: is a number, not an object"),
        ("{\n", r"labels.jsonl:1: not JSON"),
    ],
)
def test_a_file_that_holds_no_rows_is_refused_by_its_line(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    words: str,
) -> None:
    (labels := tmp_path / "labels.jsonl").write_text(content)
    assert refresh(options(folder, tmp_path / "new", labels)) == Exit.USAGE
    assert re.search(words, capsys.readouterr().err)


def test_another_reward_model_and_a_server_that_refuses_are_named(
    folder: Path, server: ServeProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save_tiny(tmp_path / "other", tiny_llama(seed=9), tiny_tokenizer())
    (labels := tmp_path / "labels.jsonl").write_text(
        "".join(
            json.dumps({"group": f"{n}", **line(random.Random(n), n, n % 2, "sea", "you")}) + "\n"
            for n in range(40)
        )
    )
    wrong = options(folder, tmp_path / "new", labels)
    assert refresh(RefreshOptions(**{**wrong.__dict__, "model": str(other)})) == Exit.USAGE
    assert "does not fit this model" in capsys.readouterr().err
    renamed = artifact.load(folder / "probe")
    card = renamed.card.model_copy(update={"name": "other"})
    artifact.save(
        tmp_path / "renamed",
        type(renamed.probe)("other", renamed.probe.weight, 0.0, 1, "mean"),
        card,
    )
    for name, words in (
        ("renamed", r"keeps its probe: .*card.name"),
        ("nowhere", "--probe .*nowh"),
    ):
        given = ReplaceOptions(probe=tmp_path / name, reward_url=server.url)
        assert replace(given) == Exit.USAGE
        assert re.search(words, capsys.readouterr().err)
