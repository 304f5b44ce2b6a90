"""A monitor for the RL demo: a second probe of the same trait, recorded and never penalised.

It has other layers, other questions and another split than the penalised probe, so that a response
that fools one need not fool the other. Its rows are composed replies to grounded questions; the
evaluation's questions are not among them.
"""

from __future__ import annotations

import json
from pathlib import Path

from candor.probes.kinds.grounded.questions import questions, shipped_domains
from candor.probes.kinds.grounded.rows import grounded_rows

NAME = "monitor"
SEED = 9000
"""Seed of the questions and of the replies; the penalised probe has other seeds."""


def write_rows(path: Path, per_domain: int) -> None:
    """Labelled rows for `candor probe train`."""
    rows = grounded_rows(questions(shipped_domains(), per_domain, seed=SEED), seed=SEED)
    lines = (json.dumps(row.model_dump(mode="json", exclude_defaults=True)) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines))
