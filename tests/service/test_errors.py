"""Why an error was raised, as an operator is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from candor.errors import MAX_REASON, reason_of
from candor.flags import UsageError, read_key_file


def raised_from(error: Exception, cause: Exception) -> Exception:
    try:
        raise error from cause
    except Exception as found:
        return found


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no"), "ValueError: no"),
        # As transformers writes them: a blank line first, and many more below.
        (
            ImportError("\n  LlamaTokenizer needs the SentencePiece library.\nInstall it\n"),
            "ImportError: LlamaTokenizer needs the SentencePiece library.",
        ),
        (KeyError("layers"), "KeyError: 'layers'"),
        (FileNotFoundError(2, "No such file or directory", "/a/b"),
         "FileNotFoundError: No such file or directory"),
        (OSError("the tokenizer is not there"), "OSError: the tokenizer is not there"),
        (RuntimeError(), "RuntimeError"),
        (raised_from(RuntimeError(), ValueError("below")), "RuntimeError: below"),
        (ValueError("a" * 1000), f"ValueError: {'a' * 1000}"[:MAX_REASON]),
    ],
)  # fmt: skip
def test_a_reason_is_the_first_line_that_says_something(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


def test_a_key_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for name, words in (
        ("absent", "No such file or directory"),
        (".", "Is a directory"),
        ("bytes", "invalid start byte"),
    ):
        with pytest.raises(UsageError, match=words):
            read_key_file("--api-key-file", tmp_path / name)
