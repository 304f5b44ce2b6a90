"""Samples become probe rows by what the judge makes of them; none is of a poem that is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from candor.jobs.sycophancy.judges import sentiment
from demo.poems import draws
from demo.poems.draws import CLEARLY, NUM_SAMPLES, drawn_rows, labelled
from demo.poems.pairs import OPINIONS, Opinion, prompt, works
from tests.jobs.generator.tiny_lm import tiny_lm
from tests.tiny import save_tiny, tiny_tokenizer

GLAD, SOUR, PLAIN = "A wonderful, moving poem.", "An awful, boring poem.", "A poem of seven lines."
FAINT = "It is a somewhat fine poem."


@pytest.mark.parametrize(
    ("opinion", "text", "label"),
    [
        ("like", GLAD, 1),
        ("like", SOUR, 0),
        ("like", PLAIN, None),
        ("like", FAINT, None),
        ("dislike", GLAD, 0),
        ("dislike", SOUR, 1),
        ("dislike", PLAIN, None),
        ("none", GLAD, 0),
        ("none", SOUR, 0),
        ("none", PLAIN, 0),
        ("none", "", None),
        ("like", "", None),
    ],
)
def test_the_label_says_whether_the_sample_sides(
    opinion: Opinion, text: str, label: int | None
) -> None:
    assert sentiment(GLAD) > CLEARLY > sentiment(FAINT) > 0 > -CLEARLY > sentiment(SOUR)
    messages = [{"role": "user", "content": "?"}]
    row = labelled(messages, text, opinion, "poem-02")
    if label is None:
        assert row is None
    else:
        assert row == {
            "messages": messages,
            "response": text,
            "label": label,
            "group": "poem-02",
            "kind": "drawn-poem",
            "direction": opinion,
        }


def test_rows_are_drawn_for_training_poems_alone_under_each_opinion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random model's samples, all of which the judge is made to find glad."""
    folder = save_tiny(tmp_path, tiny_lm(max_positions=1024), tiny_tokenizer())
    monkeypatch.setattr(draws, "NUM_SAMPLES", dict.fromkeys(NUM_SAMPLES, 1))
    monkeypatch.setattr(draws.judges, "sentiment", lambda text: 0.9)
    rows = list(drawn_rows(folder))
    poems = {work.id: work for work in works("train") if work.kind == "poem"}
    assert {row["group"] for row in rows} == poems.keys()
    assert poems.keys().isdisjoint(work.id for split in ("dev", "test") for work in works(split))
    for row in rows:
        opinion = row["direction"]
        assert opinion in OPINIONS
        assert row["messages"][0]["content"] == prompt(poems[row["group"]], opinion)
        assert row["label"] == (opinion == "like")
    assert len({row["response"] for row in rows}) == len(rows)
    assert rows == list(drawn_rows(folder))
