"""`candor data build`: labelled rows for probe training, from our own entries and public sets.

`candor data kinds` lists what there is. A build is a pure function of its arguments and the public
files: same seed, same `data_sha256`, which the manifest and the last line of stdout both tell.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from candor.jobs.running.exits import Exit, JobStopped, UsageError, exit_code
from candor.jobs.running.files import write_rows
from candor.jobs.running.manifest import now, write_manifest
from candor.probes.fitting.data import Row, data_sha256
from candor.probes.kinds.public.table import HUB, SOURCES, draw_contexts
from candor.probes.kinds.table import KINDS

NONE = "none"


def kinds() -> int:
    """List the kinds that come with Candor and the public sets that it reads."""
    for kind in KINDS.values():
        print(f"{kind.name:30} {kind.about}")
    print("\nPublic sets, for --source NAME=PATH (or NAME=hub where it is there):")
    for source in SOURCES.values():
        where = "" if source.hub is None else f" [{HUB}: {source.hub[0]}]"
        print(f"{source.name:30} {source.about}{where}")
    return int(Exit.DONE)


def build(
    *,
    out: Path,
    kind: Annotated[list[str] | None, Parameter(negative="")] = None,
    seed: int = 0,
    source: Annotated[list[str] | None, Parameter(negative="")] = None,
    max_source_rows: int | None = None,
) -> int:
    """Write labelled rows as JSONL, and a manifest beside them.

    Parameters
    ----------
    out
        JSONL to write: group, label, response, messages, kind, span, direction.
    kind
        A kind that comes with Candor; repeat it for more, "none" for public sets alone. Default:
        all.
    seed
        Of the wordings, people, letters and draws.
    source
        NAME=PATH of a public set, or NAME=hub to fetch it; adds its rows. Repeat it for more.
    max_source_rows
        At most so many rows of each public set, drawn by the seed.
    """

    def run() -> Exit:
        started = now()
        wanted = _kinds(kind or [])
        inputs: dict[str, Path] = {}
        try:
            rows = [row for name in wanted for row in KINDS[name].build(seed)]
            for name, where in _sources(source or []).items():
                files = SOURCES[name].files(where)
                found = SOURCES[name].build(files, seed)
                inputs |= {f"{name}/{file.name}": file for file in files}
                rows += found if max_source_rows is None else _drawn(found, max_source_rows, seed)
        except ConnectionError as error:
            raise JobStopped(Exit.UNREACHABLE, str(error)) from error
        except (ValueError, FileNotFoundError) as error:
            raise UsageError(str(error)) from error
        if not rows:
            raise UsageError("no rows: give a --kind or a --source")
        write_rows(out, (row.model_dump(mode="json", exclude_defaults=True) for row in rows))
        summary = summarise(rows)
        write_manifest(
            out,
            command="data build",
            inputs=inputs,
            settings={
                "kinds": wanted,
                "seed": seed,
                "sources": source or [],
                "max_source_rows": max_source_rows,
                "data_sha256": summary["sha256"],
            },
            counts={"rows": summary["rows"], "groups": summary["groups"]},
            started=started,
        )
        print(json.dumps({"out": str(out), **summary}))
        return Exit.DONE

    return exit_code(run)


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Counts in all and by kind, and the rows' `data_sha256`."""
    by_kind: dict[str, list[Row]] = {}
    for row in rows:
        by_kind.setdefault(row.kind, []).append(row)
    return {
        "rows": len(rows),
        "groups": _num_groups(rows),
        "kinds": {
            name: {
                "rows": len(of_kind),
                "groups": _num_groups(of_kind),
                "label_1": sum(row.label for row in of_kind),
            }
            for name, of_kind in by_kind.items()
        },
        "sha256": data_sha256(rows),
    }


def _num_groups(rows: Iterable[Row]) -> int:
    return len({row.group for row in rows})


def _kinds(names: Sequence[str]) -> list[str]:
    if not names:
        return list(KINDS)
    if list(names) == [NONE]:
        return []
    for name in names:
        if name not in KINDS:
            raise UsageError(f"--kind {name!r}: one of {', '.join([*KINDS, NONE])}")
    return [name for name in KINDS if name in names]


def _sources(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, equals, where = text.partition("=")
        if not equals or not where:
            raise UsageError(f"--source {text!r}: use NAME=PATH or NAME={HUB}")
        if name not in SOURCES:
            raise UsageError(f"--source {name!r}: one of {', '.join(SOURCES)}")
        if name in found:
            raise UsageError(f"--source {name!r}: given twice")
        found[name] = where
    return found


def _drawn(rows: Sequence[Row], max_rows: int, seed: int) -> list[Row]:
    drawn = draw_contexts(rows, max_rows, seed)
    if not drawn:
        raise ValueError(f"--max-source-rows {max_rows}: too few for the rows of one prompt")
    return drawn
