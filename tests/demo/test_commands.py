"""The demo's servers: what it says while it waits."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from candor.jobs.running.processes import StartFailed
from demo.commands import serving


def test_the_demo_says_at_once_what_it_waits_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow_to_fail = [sys.executable, "-c", "import time; time.sleep(1); print('no model'); exit(3)"]
    began = time.monotonic()
    with pytest.raises(StartFailed, match="no model"), serving(slow_to_fail, tmp_path / "log"):
        pass
    assert time.monotonic() - began >= 1
    started, waiting = capsys.readouterr().err.splitlines()
    assert started.startswith("$ ")
    assert str(tmp_path / "log") in started
    assert waiting.startswith("waiting for http://127.0.0.1:")
