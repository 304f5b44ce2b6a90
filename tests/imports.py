"""What a statement loads, in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

from tests.paths import ROOT


def loaded_by(statement: str) -> set[str]:
    """Top-level names in `sys.modules` after `statement` in a fresh interpreter."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


HEAVY = {"fastapi", "numpy", "orjson", "sklearn", "starlette", "structlog", "torch", "transformers"}
