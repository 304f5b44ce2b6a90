"""The two hashes that tie a probe to its model."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from candor.probes.identity import template_sha256, weights_sha256


def folder(path: Path, **files: bytes) -> Path:
    path.mkdir()
    for name, content in files.items():
        (path / f"{name}.safetensors").write_bytes(content)
    return path


def test_the_hash_is_what_sha256sum_piped_into_itself_prints(tmp_path: Path) -> None:
    model = folder(tmp_path / "m", b=b"two", a=b"one")
    listing = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}.safetensors\n"
        for name, content in (("a", b"one"), ("b", b"two"))
    )
    assert weights_sha256(model) == hashlib.sha256(listing.encode()).hexdigest()


def test_any_change_of_bytes_or_names_changes_it_and_other_files_do_not(tmp_path: Path) -> None:
    model = folder(tmp_path / "m", a=b"one", b=b"two")
    before = weights_sha256(model)
    (model / "config.json").write_text("{}")
    assert weights_sha256(model) == before
    variants = {
        weights_sha256(folder(tmp_path / "bytes", a=b"one", b=b"twO")),
        weights_sha256(folder(tmp_path / "moved", a=b"onetwo", b=b"")),
        weights_sha256(folder(tmp_path / "name", a=b"one", c=b"two")),
        weights_sha256(folder(tmp_path / "fewer", a=b"one")),
    }
    assert len(variants | {before}) == 5


def test_a_folder_without_safetensors_is_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=str(tmp_path)):
        weights_sha256(tmp_path)


def test_templates_differ_by_one_character() -> None:
    assert template_sha256("a") == hashlib.sha256(b"a").hexdigest() != template_sha256("a ")
    assert template_sha256(None) == hashlib.sha256(b"").hexdigest()
