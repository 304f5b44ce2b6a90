"""Finding the compiled kernel: used where it is, done without where it is not, cannot be loaded, or
is not wanted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from candor.forward import native
from tests.forward.kernels import BUILD, built


@pytest.fixture(autouse=True)
def looked_for_anew() -> Iterator[None]:
    native.kernel.cache_clear()
    yield
    native.kernel.cache_clear()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the package looks for its library, empty."""
    path = tmp_path / native.LIBRARY.name
    monkeypatch.setattr(native, "LIBRARY", path)
    monkeypatch.delenv("CANDOR_NATIVE", raising=False)
    return path


def build(out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BUILD), "--out", str(out)]
    env = os.environ | environment
    return subprocess.run(command, capture_output=True, text=True, env=env)


def test_a_built_kernel_is_used_unless_it_is_not_wanted(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(found := built(), str):
        pytest.skip(f"no native kernel here: {found}")
    library.symlink_to(found.library)
    loaded = native.kernel()
    assert loaded is not None
    assert set(loaded.names) == {torch.float32, torch.bfloat16}
    assert native.name(torch.float32) == f"native-{loaded.names[torch.float32]}"
    assert native.name(torch.float16) == "sdpa"
    monkeypatch.setenv("CANDOR_NATIVE", "0")
    native.kernel.cache_clear()
    assert native.kernel() is None
    assert native.name(torch.float32) == "sdpa"


@pytest.mark.parametrize("content", [None, b"", b"no library"])
def test_without_a_library_that_loads_torch_does_it(library: Path, content: bytes | None) -> None:
    if content is not None:
        library.write_bytes(content)
    assert native.kernel() is None
    assert native.name(torch.float32) == "sdpa"


def test_a_build_without_a_compiler_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    done = build(tmp_path / "out.so", CXX="/nowhere/c++")
    assert done.returncode == 1
    assert "compiler" in done.stderr or "no kernel for" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_compiler_that_fails_is_quoted(tmp_path: Path) -> None:
    done = build(tmp_path / "out.so", CXX="false")
    assert done.returncode == 1
    assert "false" in done.stderr or "no kernel for" in done.stderr
    assert list(tmp_path.iterdir()) == []
