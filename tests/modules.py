"""Every source file of ours, by its dotted name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.paths import ROOT

SOURCE_ROOTS = ("client", "forward", "probes", "service", "jobs")


def modules() -> Iterator[tuple[str, Path]]:
    """(dotted name, file) of every module of ours."""
    for root in SOURCE_ROOTS:
        for path in sorted((ROOT / root / "candor").rglob("*.py")):
            yield dotted(path.relative_to(ROOT / root)), path
    for root in ("demo", "bench", "docsite"):
        for path in sorted((ROOT / root).rglob("*.py")):
            yield dotted(path.relative_to(ROOT)), path


def dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


MODULES = dict(modules())
