"""The demo's servers: what it says while it waits."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from candor.jobs.running.processes import StartFailed
from demo.commands import serving
from tests.paths import ROOT


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


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("demo.run", "has no null probes: make it by `make assets`"),
        ("demo.poems.run", "has no probe sycophancy-writing: the shipped frozen trunk has none"),
    ],
)
def test_a_folder_that_lacks_a_probe_is_refused_in_one_line(
    module: str, words: str, tmp_path: Path
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", module, f"--assets={tmp_path}", f"--out={tmp_path / 'out'}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("the demo did not start: ")
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
