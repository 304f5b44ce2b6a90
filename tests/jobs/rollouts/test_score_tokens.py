"""`candor score --tokens`: each token's logit beside the scores, for the heat maps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from candor.jobs.inspect.command import inspect
from candor.jobs.pages import scored as pages
from candor.jobs.rollouts.score import ScoreOptions, score
from candor.jobs.running.exits import Exit
from candor.jobs.running.files import write_rows
from tests.jobs.stub import rows_of
from tests.pages import checked
from tests.service.serving import load_tiny, running, tiny_app
from tests.tiny import TURNS

TEXTS = ["I think it is very good.", "The sea is blue.", "no \U0001f30a"]
ROW = {
    "key": "a",
    "messages": [{"role": "user", "content": "What do you think of this poem?"}],
    "responses": [{"text": text} for text in TEXTS],
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(tiny_app()) as url:
        yield url


def scored(url: str, folder: Path, **options: Any) -> list[dict[str, Any]]:
    write_rows(folder / "rollouts.jsonl", [ROW])
    out = folder / "scored.jsonl"
    assert (
        score(ScoreOptions(rollouts=folder / "rollouts.jsonl", out=out, reward_url=url, **options))
        == Exit.DONE
    )
    (row,) = rows_of(out)
    found: list[dict[str, Any]] = row["scores"]
    return found


def test_the_tokens_of_a_mean_pooled_probe_have_its_score_as_their_mean(
    url: str, tmp_path: Path
) -> None:
    without = scored(url, tmp_path)
    with_tokens = scored(url, tmp_path, tokens=True)  # other settings: the row is done again
    for text, plain, one in zip(TEXTS, without, with_tokens, strict=True):
        tokens = one.pop("tokens")
        assert one.keys() == plain.keys()
        assert one["reward"] == pytest.approx(plain["reward"], abs=1e-5)
        assert all(token.keys() == {"id", "start", "end", "probes"} for token in tokens)
        for name, reading in one["probes"].items():
            logits = [token["probes"][name] for token in tokens]
            assert np.mean(logits) == pytest.approx(reading["score"], abs=1e-5)
            assert len(set(logits)) > 1
        covered = {n for token in tokens for n in range(token["start"], token["end"])}
        assert covered == set(range(len(text)))


def test_the_page_has_the_tokens_and_says_which_it_left_out(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = [len(one["tokens"]) for one in scored(url, tmp_path, tokens=True)]
    for room, kept in ((sum(counts), 3), (sum(counts) - 1, 2)):
        monkeypatch.setattr(pages, "MAX_TOKENS", room)
        assert inspect(tmp_path / "scored.jsonl") == Exit.DONE
        page = checked((tmp_path / "scored.jsonl.html").read_text(encoding="utf-8"))
        (group,) = page.data["groups"]
        assert ["tokens" in one for one in group["candidates"]] == [n < kept for n in range(3)]
        assert ["notokens" in one for one in group["candidates"]] == [n >= kept for n in range(3)]


def test_where_the_template_rewrites_the_response_the_row_is_scored_without(
    tmp_path: Path,
) -> None:
    """The first text has the word, and the whole row is scored without, as one request."""
    modest = TURNS.replace("message['content']", "message['content'] | replace('very', 'quite')")
    app = tiny_app(lambda metrics: load_tiny(metrics, template=modest))
    with running(app) as url:
        without = scored(url, tmp_path)
        with_tokens = scored(url, tmp_path, tokens=True)
    assert json.dumps(with_tokens) == json.dumps(without)
    assert all("error" not in one for one in without)
