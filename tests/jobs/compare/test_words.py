"""The word list: scores by hand, and files that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from candor.flags import UsageError
from candor.jobs.compare.words import WordList, read_words, terms

WORDS = WordList(
    data_sha256="ab",
    num_rows=4,
    bias=-1.0,
    weights={"lovely": 2.0, "not": -0.5, "not lovely": -3.0},
)


def test_a_score_is_the_bias_and_one_weight_for_each_word_and_pair() -> None:
    assert terms("Not lovely.\nNot!") == ["not", "lovely", "not", "not lovely", "lovely not"]
    assert WORDS.score("") == -1.0
    assert WORDS.score("Lovely, LOVELY!") == 1.0
    assert WORDS.score("It is not lovely") == -1.0 + 2.0 - 0.5 - 3.0
    assert WORDS.scores(["unknown words", "lovely"]).tolist() == [-1.0, 1.0]


def test_a_file_gives_the_same_list_back(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text(WORDS.model_dump_json())
    assert read_words(path) == WORDS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("not json", "not JSON"),
        ('{"bias": 1.0}', "data_sha256: Field required"),
        ('{"data_sha256": "a", "num_rows": 1, "bias": NaN, "weights": {}}', "bias: "),
        ('{"data_sha256": "a", "num_rows": 1, "bias": 0.0, "weights": {"a": "b"}}', "weights.a: "),
    ],
)
def test_another_file_is_refused_by_name(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "words.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError) as caught:
        read_words(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "candor probe train" in str(caught.value)
