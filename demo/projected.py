"""R of the demo's kept answers where a direction is taken out of the reward model.

    python -m demo.projected                # writes docs/raw/grounded-projected.jsonl.gz

Each server runs with `--method project` and one probe: the demo's own, and each of its null probes.
`demo.results` prints what best-of-N chooses by these numbers, beside the other ways to use a probe.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cyclopts import App

from candor.client import RewardClient
from candor.jobs.running.files import Row
from candor.jobs.running.processes import candor, exit_on_sigterm
from demo.assets import null_probes_of
from demo.commands import main, say, serving
from demo.raw import kept_rows, write_kept
from demo.servers import PROBE

ROWS_PER_REQUEST = 4

app = App(name="python -m demo.projected")


@app.default
def projected(
    *,
    assets: Path = Path("build/demo"),
    kept: Path = Path("docs/raw/grounded.jsonl.gz"),
    out: Path = Path("docs/raw/grounded-projected.jsonl.gz"),
    logs: Path = Path("runs/projected"),
) -> None:
    """Score kept answers again by servers that take a direction out of the reward model.

    Parameters
    ----------
    assets
        Folder that `python -m demo.assets` made.
    kept
        Rows that `python -m demo.raw` kept.
    out
        File to write: per prompt, R of every answer by the name of the probe that was taken out.
    logs
        Folder for the servers' logs.
    """
    exit_on_sigterm()
    logs.mkdir(parents=True, exist_ok=True)
    rows = kept_rows(kept)
    folders = {PROBE: assets / "probes" / PROBE}
    for names in null_probes_of(assets).values():
        folders |= {name: assets / "nulls" / name for name in names}
    found: dict[str, list[list[float]]] = {}
    for place, (name, folder) in enumerate(folders.items(), start=1):
        say(f"direction {place} of {len(folders)}: {name}")
        server = candor("serve", f"--model={assets / 'model'}", f"--probe={folder}")
        with serving([*server, "--method=project"], logs / f"{name}.log") as url:
            found[name] = base_rewards(url, rows)
    write_kept(
        out,
        [
            {"key": row["key"], "base_reward": {name: each[place] for name, each in found.items()}}
            for place, row in enumerate(rows)
        ],
    )


def base_rewards(url: str, rows: Sequence[Row]) -> list[list[float]]:
    """R of every response, row by row.

    Raises:
        candor.client.ClientError: the server refused a row, or did not answer.
    """
    items = [
        {"messages": row["messages"], "responses": [one["text"] for one in row["responses"]]}
        for row in rows
    ]
    found = []
    with RewardClient(url) as client:
        for start in range(0, len(items), ROWS_PER_REQUEST):
            reply = client.rewards(items[start : start + ROWS_PER_REQUEST])
            found += [[one.base_reward for one in result.responses] for result in reply.results]
    return found


if __name__ == "__main__":
    main(app)
