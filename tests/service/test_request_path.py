"""The walk of one request in docs/design.md names every file that runs for it, and no other."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import httpx2

from tests.paths import ROOT
from tests.service.serving import BODY, load_tiny, running, tiny_app

SOURCES = {ROOT / root / "candor" for root in ("client", "forward", "probes", "service")}
BESIDE = ("candor.watch.", "candor.forward.", "candor.probes.")
"""Rooms beside the path: they record a request, or do the arithmetic of a forward and a bound."""

AT_THE_END = {"candor.errors"}
"""The error with which a batcher is closed: the server of this test ends while it is traced."""


@contextmanager
def traced(seen: set[str]) -> Iterator[None]:
    """Collects the modules of ours in which a function is called, in threads begun meanwhile."""

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        for source in SOURCES:
            if event == "call" and source in path.parents:
                parts = path.relative_to(source).with_suffix("").parts
                seen.add(".".join(("candor", *parts)))

    threading.setprofile(note)
    try:
        yield
    finally:
        threading.setprofile(None)  # type: ignore[arg-type]
        sys.setprofile(None)


def test_the_files_of_the_walk_are_those_that_run() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    walk = text.partition("## The walk of one request")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(candor\.[a-z_.]+)`", walk))
    seen: set[str] = set()
    app = tiny_app(lambda metrics: load_tiny(metrics, prefix_cache_mb=1))
    with traced(seen), running(app) as url:
        httpx2.post(f"{url}/v1/rewards", json=BODY)
        seen.clear()  # of what ran while the model was loaded
        assert httpx2.post(f"{url}/v1/rewards", json=BODY).status_code == 200
        found = set(seen)
    path = {name for name in found - AT_THE_END if not name.startswith(BESIDE)}
    assert path == named
    assert len(path) <= 26
