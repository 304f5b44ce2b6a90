"""What the flags of every command share: NAME=NUMBER, and a key out of a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from candor.flags import UsageError, parse_strengths, read_key_file, read_server_key


def test_strengths_are_name_and_number() -> None:
    assert parse_strengths("--penalty", ["a=0.5", "b = 2", "c-d=1e-3"]) == {
        "a": 0.5,
        "b": 2.0,
        "c-d": 0.001,
    }
    for wrong in (["a"], ["=1"], ["a="], ["a=much"], ["a=-1"], ["a=nan"], ["a=1", "a=2"]):
        with pytest.raises(UsageError, match="--penalty"):
            parse_strengths("--penalty", wrong)


def test_a_key_is_the_text_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("  from-file\n")
    assert read_key_file("--operator-key-file", file) == "from-file"
    assert read_key_file("--operator-key-file", None) is None
    with pytest.raises(UsageError, match=r"--operator-key-file .*absent: cannot be read"):
        read_key_file("--operator-key-file", tmp_path / "absent")
    file.write_text("\n")
    with pytest.raises(UsageError, match="the file is empty"):
        read_key_file("--operator-key-file", file)


def test_the_servers_key_is_in_the_file_or_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text("from-file\n")
    monkeypatch.setenv("CANDOR_API_KEY", " from-environment\n")
    assert read_server_key("--api-key-file", file) == "from-file"
    assert read_server_key("--api-key-file", None) == "from-environment"
    monkeypatch.setenv("CANDOR_API_KEY", "")
    assert read_server_key("--api-key-file", None) is None
    monkeypatch.delenv("CANDOR_API_KEY")
    assert read_server_key("--api-key-file", None) is None
