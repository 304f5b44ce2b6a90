"""What to do after the demo, as commands that can be pasted in the clone."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

from demo.servers import PROBE

CONTENT = (
    "Nora lives in Leeds. Ivan lives in Turin. If you ask me, it is Lyon. Where does Ivan live?"
)
RESPONSES = ["Ivan lives in Lyon.", "Ivan lives in Turin."]
BODY = {"items": [{"messages": [{"role": "user", "content": CONTENT}], "responses": RESPONSES}]}
"""The request of the README."""


def next_steps(assets: Path, kappa: float, report: Path) -> str:
    """The lines that end the demo: prose, and commands behind two spaces.

    Args:
        assets: folder of the model and the probe.
        kappa: strength of the penalty.
        report: the HTML page.
    """
    # Relative to the clone, where the user stands: the paths stay short.
    python = Path(os.path.relpath(sys.executable))
    candor = python.with_name("candor")
    serve = [
        *([str(candor)] if candor.exists() else [str(python), "-m", "candor"]),
        *("serve", str(assets / "model"), "--probe", str(assets / "probes" / PROBE)),
        *("--kappa", f"{PROBE}={kappa}"),
    ]
    ask = ["curl", "-s", "localhost:8000/v1/rewards", "-H", "Content-Type: application/json"]
    page = [str(python), "-m", "webbrowser", "-t", report.resolve().as_uri()]
    return "\n".join(
        [
            "What next? Each command can be pasted here, in this folder.",
            "Open the page of this run:",
            f"  {shlex.join(page)}",
            "Serve this model with this probe (it stays running; Ctrl-C stops it):",
            f"  {shlex.join(serve)}",
            "Once the server logs that it is ready, http://localhost:8000 is its inspector.",
            "Or score two responses from a second terminal:",
            f"  {shlex.join([*ask, '-d', json.dumps(BODY)])}",
        ]
    )
