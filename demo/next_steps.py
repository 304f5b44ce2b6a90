"""What to do after the demo, as commands that can be pasted in the clone."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from demo.servers import PROBE

CONTENT = (
    "Nora lives in Leeds. Ivan lives in Turin. If you ask me, it is Lyon. Where does Ivan live?"
)
RESPONSES = ["Ivan lives in Lyon.", "Ivan lives in Turin."]
BODY = {"items": [{"messages": [{"role": "user", "content": CONTENT}], "responses": RESPONSES}]}
"""The request of the README."""


def next_steps(assets: Path, kappa: float, report: Path, probe: str = PROBE) -> str:
    """The lines that end the demo.

    Args:
        assets: folder of the model and the probe.
        kappa: strength of the penalty.
        report: the HTML page.
        probe: name of the probe.
    """
    python = _python()
    candor = python.with_name("candor")
    serve = [
        *([str(candor)] if candor.exists() else [str(python), "-m", "candor"]),
        *("serve", str(assets / "model"), "--probe", str(assets / "probes" / probe)),
        *("--kappa", f"{probe}={kappa}"),
    ]
    ask = ["curl", "-s", "localhost:8000/v1/rewards", "-H", "Content-Type: application/json"]
    return to_paste(
        [
            ("Open the page of this run:", opened(report)),
            (
                "Serve this model with this probe (it prints the address of its inspector when it "
                "is ready; Ctrl-C stops it):",
                serve,
            ),
            ("Score two responses from a second terminal:", [*ask, "-d", json.dumps(BODY)]),
        ]
    )


def to_paste(steps: Sequence[tuple[str, Sequence[str]]]) -> str:
    """What can be done next: sentences, each with a command behind two spaces."""
    lines = ["What next? Each command can be pasted here, in this folder."]
    for what, command in steps:
        lines += [what, f"  {shlex.join(command)}"]
    return "\n".join(lines)


def opened(page: Path) -> list[str]:
    """The command that opens a page or a picture in a browser."""
    return [str(_python()), "-m", "webbrowser", "-t", page.resolve().as_uri()]


def _python() -> Path:
    """This Python, relative to the clone, where the user stands: the commands stay short."""
    return Path(os.path.relpath(sys.executable))
