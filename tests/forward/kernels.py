"""Which code computes packed attention in a test: the compiled kernel of this CPU, the AVX-512
kernels in plain C++ (the same source, no such instruction), or torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

from candor.forward import native
from candor.forward.native import Kernel
from tests.paths import ROOT

BUILD = ROOT / "forward" / "cpp" / "build.py"
PATHS = ("native", "emulated", "torch")


@cache
def built(*flags: str) -> Kernel | str:
    """The kernel, compiled from the sources as they are; or why there is none."""
    out = Path(mkdtemp()) / "kernel.so"
    command = [sys.executable, str(BUILD), "--out", str(out), *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    return Kernel(out) if done.returncode == 0 else done.stderr


@contextmanager
def computed_by(path: str) -> Iterator[None]:
    """Skips the test, with the reason, where the compiled paths cannot be built."""
    kernel = None
    if path != "torch":
        found = built(*(["--emulate"] if path == "emulated" else []))
        if isinstance(found, str):
            pytest.skip(f"no native kernel here: {found}")
        kernel = found
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "kernel", lambda: kernel)
        yield
