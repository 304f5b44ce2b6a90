"""Rotten Tomatoes sentences: small files in the published formats, and the real text if present."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from candor.probes.kinds.public import rotten_tomatoes
from candor.probes.kinds.public.table import SOURCES
from tests.probes.kinds.public.lines import assert_file_refused, real


def sentences(folder: Path, positive: bytes, negative: bytes) -> Path:
    (folder / "rt-polarity.pos").write_bytes(positive)
    (folder / "rt-polarity.neg").write_bytes(negative)
    return folder


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_rotten_tomatoes_sentences_in_either_encoding(tmp_path: Path, encoding: str) -> None:
    folder = sentences(tmp_path, "très bon . \nfine .\n".encode(encoding), b"dull .\nfine .\n")
    source = SOURCES["rotten-tomatoes"]
    rows = source.build(source.files(str(folder)), 0)
    assert Counter((row.group.rpartition("/")[2], row.label) for row in rows) == {
        (f"rotten-tomatoes-rt-polarity.{name}", label): 2
        for name in ("pos-1", "pos-2", "neg-1")  # the text that is in both files counts once
        for label in (0, 1)
    }
    assert rows[0].messages is not None
    assert '"très bon ." is negative.' in rows[0].messages[0].content


def test_a_parquet_file_without_pyarrow_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = tmp_path / "train.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"train\.parquet: parquet: pip install pyarrow, or give"):
        rotten_tomatoes.statements([path])


def test_blank_lines_are_skipped_and_one_sentiment_alone_is_refused(tmp_path: Path) -> None:
    folder = sentences(tmp_path, b"\xef\xbb\xbffine .\r\n\r\ngood .", b"dull .\n")
    paths = [folder / name for name in SOURCES["rotten-tomatoes"].folder]
    assert [one.text for one in rotten_tomatoes.statements(paths)] == ["fine .", "good .", "dull ."]
    with pytest.raises(ValueError, match="one sentiment alone"):
        rotten_tomatoes.statements(paths[1:])


def test_a_file_of_another_name_is_refused(tmp_path: Path) -> None:
    def load(path: Path) -> object:
        return rotten_tomatoes.statements([path])

    assert_file_refused(tmp_path / "set", load, "a\n", "name: expected .pos")


def test_the_real_rotten_tomatoes() -> None:
    source = SOURCES["rotten-tomatoes"]
    found = rotten_tomatoes.statements(source.files(str(real("nltk_data-sentence_polarity"))))
    assert Counter(entry.truth for entry in found) == {"positive": 5331, "negative": 5331}
