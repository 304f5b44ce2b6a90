"""The word list of a probe: what words give away is found, what they do not is not."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from candor.jobs.probe.material import LabelledRows, read_data
from candor.jobs.probe.stress.words import fit_words, text_of, words_control
from candor.probes.fitting.data import Row, data_sha256
from tests.jobs.probe.planted import labelled


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> LabelledRows:
    return read_data([labelled(tmp_path_factory.mktemp("rows") / "rows.jsonl")], 0)


def test_the_scores_are_those_of_the_regression(planted: LabelledRows) -> None:
    """The exported weights against scikit-learn's own decision function."""
    train = list(planted.labelled.train)
    words = fit_words(planted.rows, train)
    texts = [text_of(row) for row in planted.rows]
    counter = CountVectorizer(
        ngram_range=(1, 2), binary=True, token_pattern=r"(?u)\b\w+\b", max_features=2000
    )
    counts = counter.fit_transform([texts[index] for index in train])
    regression = LogisticRegression(max_iter=2000).fit(counts, planted.labels[train])
    wanted = regression.decision_function(counter.transform(texts))
    np.testing.assert_allclose(words.scores(texts), wanted, atol=1e-3)
    assert (words.num_rows, words.data_sha256) == (len(train), data_sha256(planted.rows))
    assert max(words.weights, key=words.weights.__getitem__) == "thank"


def test_a_label_that_a_word_gives_away_is_found(planted: LabelledRows) -> None:
    _, found = words_control(planted, list(planted.split.test.open()), 0)
    assert found["auroc"] > 0.99
    assert found["within_prompt_auroc"] > 0.99
    assert set(found["kind_aurocs"]) == {"the sea", "the poem"}


def test_a_label_that_follows_from_the_prompt_alone_is_not(tmp_path: Path) -> None:
    """The same replies to two prompts, right to one of them."""
    rng = random.Random(0)
    lines = []
    for group in range(40):
        right, wrong = rng.sample(["red", "blue", "green"], 2)
        for value, label in ((right, 0), (wrong, 1)):
            row = Row(
                group=f"g{group}",
                label=label,
                response=f"It is {value}.",
                prompt=f"<|im_start|>user\nCar {group} is {right}; I say {wrong}.<|im_end|>"
                "\n<|im_start|>assistant\n",
                kind="k",
            )
            lines.append(row.model_dump_json(exclude_none=True))
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    data = read_data([tmp_path / "rows.jsonl"], 0)
    _, found = words_control(data, list(data.split.test.open()), 0)
    assert found["within_prompt_auroc"] == pytest.approx(0.5, abs=0.35)
    assert found["num_mixed_prompts"] == 8


def test_responses_without_a_word_have_one_score() -> None:
    rows = [
        Row(group=f"g{n}", label=n % 2, response="!" * (n + 1), prompt="p", kind="")
        for n in range(6)
    ]
    words = fit_words(rows, range(6))
    assert words.weights == {}
    assert set(words.scores(["!", "??"]).tolist()) == {0.0}
