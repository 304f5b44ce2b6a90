"""What is kept in the repository: the figures of docs/results.md on the demos are made from it.

    python -m demo.raw runs/demo/scored.jsonl docs/raw/grounded.jsonl.gz

A kept row is the scored row without what no figure reads: token counts, pooled means and maxima,
and the server's words about itself. Numbers are not rounded.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cyclopts import App

from candor.flags import UsageError
from candor.jobs.running.files import Row, read_rows
from demo.commands import main

ROW = ("key", "messages", "meta", "model")
SCORE = ("base_reward", "penalty", "reward")
PROBE_SCORE = ("score", "bounded", "lambda")

app = App(name="python -m demo.raw")


@app.default
def keep(scored: Path, out: Path) -> None:
    """Write the kept rows of a scored file.

    Parameters
    ----------
    scored
        JSONL of `candor score`.
    out
        File to write: JSONL, compressed by gzip.
    """
    write_kept(out, [_kept(row) for row in read_rows(scored)])


def write_kept(out: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSONL, compressed by gzip."""
    out.parent.mkdir(parents=True, exist_ok=True)
    # Without a name and the time of writing, the same rows make the same file.
    with out.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        for row in rows:
            packed.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")


def kept_rows(path: Path) -> list[Row]:
    """The rows of a kept file, which read as rows of `candor score`."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def kept_runs(folder: Path) -> list[Row]:
    """Every run of a folder that holds a JSON file per run, by arm and seed.

    Raises:
        UsageError: the folder has none, or a file is no run; the message names it.
    """
    runs = []
    for path in sorted(folder.glob("*.json")):
        try:
            run = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: cannot be read as JSON: {error}") from None
        if not isinstance(run, dict) or not {"arm", "seed"} <= run.keys():
            raise UsageError(f"{path}: is no run: it has no 'arm' and 'seed'")
        runs.append(run)
    if not runs:
        raise UsageError(f"{folder}: holds no run (a JSON file per run)")
    return sorted(runs, key=lambda run: (run["arm"], run["seed"]))


def _kept(row: Row) -> Row:
    def score(one: dict[str, Any]) -> dict[str, Any]:
        probes = {
            name: {field: probe[field] for field in PROBE_SCORE}
            for name, probe in one["probes"].items()
        }
        return {**{field: one[field] for field in SCORE}, "probes": probes}

    model = row["reward_model"]
    return {
        **{field: row[field] for field in ROW},
        "reward_model": {name: model[name] for name in ("id", "revision", "combine", "methods")},
        "responses": [{"text": response["text"]} for response in row["responses"]],
        "scores": [score(one) for one in row["scores"]],
    }


if __name__ == "__main__":
    main(app)
