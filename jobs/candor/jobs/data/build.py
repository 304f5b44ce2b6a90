"""`candor data build`: labelled rows for probe training, from Candor's own kinds and public sets.

`candor data kinds` lists both. A build depends only on its options and the public files: the same
seed gives the same `data_sha256`, which is in the manifest and in the last line of stdout.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from candor.flags import UsageError
from candor.jobs.running.exits import Exit, JobStopped, command
from candor.jobs.running.files import write_rows
from candor.jobs.running.manifest import now, write_manifest
from candor.probes.fitting.data import Row, data_sha256
from candor.probes.kinds.public.table import HUB, SOURCES, draw_contexts
from candor.probes.kinds.table import FAMILIES, KINDS

NONE = "none"


def kinds() -> int:
    """List the kinds of labelled rows that come with Candor, and the public sets it can read."""
    for kind in KINDS.values():
        family = f" [family: {kind.family}]" if kind.family else ""
        print(f"{kind.name:30} {kind.about}{family}")
    print("\nPublic sets, for --source NAME=PATH (or NAME=hub, to download it):")
    for source in SOURCES.values():
        hub = "" if source.hub is None else f" [{HUB}: {source.hub[0]}]"
        print(f"{source.name:30} {source.about}{hub}")
    return int(Exit.DONE)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """The options of `candor data build`."""

    out: Path
    """JSONL to write: group, label, response, messages, kind, span, direction."""
    kind: Annotated[list[str] | None, Parameter(negative="")] = None
    """A kind of labelled rows that comes with Candor, or a family of kinds (see candor data kinds).
    Default: every kind that is in no family; none: only the public sets. May be repeated."""
    seed: int = 0
    """Seed of the wordings, people, letters and draws."""
    source: Annotated[list[str] | None, Parameter(negative="")] = None
    """NAME=PATH: also the rows of this public set; NAME=hub downloads it from the Hugging Face Hub.
    May be repeated."""
    max_source_rows: int | None = None
    """Most rows of each public set, drawn by the seed."""


@command
def build(options: BuildOptions) -> Exit:
    """Write labelled rows as JSONL, and a manifest beside them."""
    started = now()
    wanted = wanted_kinds(options.kind or [])
    try:
        rows, inputs = build_rows(
            wanted, _sources(options.source or []), options.seed, options.max_source_rows
        )
    except ConnectionError as error:
        raise JobStopped(Exit.UNREACHABLE, str(error)) from error
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    if not rows:
        raise UsageError("no rows: give a --kind or a --source")
    write_rows(options.out, (row.model_dump(mode="json", exclude_defaults=True) for row in rows))
    summary = summarise(rows)
    write_manifest(
        options.out,
        command="data build",
        inputs=inputs,
        settings={
            "kinds": wanted,
            "seed": options.seed,
            "sources": options.source or [],
            "max_source_rows": options.max_source_rows,
            "data_sha256": summary["sha256"],
        },
        counts={"rows": summary["rows"], "groups": summary["groups"]},
        started=started,
    )
    print(json.dumps({"out": str(options.out), **summary}))
    return Exit.DONE


def build_rows(
    kinds: Sequence[str], sources: Mapping[str, str], seed: int, max_source_rows: int | None
) -> tuple[list[Row], dict[str, Path]]:
    """The rows, and the files of the public sets by name.

    Raises:
        ConnectionError: a public set could not be downloaded.
        ValueError, FileNotFoundError: a public set is not as expected, or `max_source_rows` is too
            small.
    """
    rows = [row for name in kinds for row in KINDS[name].build(seed)]
    inputs: dict[str, Path] = {}
    for name, place in sources.items():
        files = SOURCES[name].files(place)
        found = SOURCES[name].build(files, seed)
        inputs |= {f"{name}/{file.name}": file for file in files}
        if max_source_rows is not None:
            found = draw_contexts(found, max_source_rows, seed)
            if not found:
                raise ValueError(
                    f"--max-source-rows {max_source_rows}: too few for the rows of one prompt"
                )
        rows += found
    return rows, inputs


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Counts of all rows and by kind, and the rows' `data_sha256`."""
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


def wanted_kinds(names: Sequence[str]) -> list[str]:
    if not names:
        return [name for name, kind in KINDS.items() if not kind.family]
    if list(names) == [NONE]:
        return []
    for name in names:
        if name not in KINDS and name not in FAMILIES:
            raise UsageError(f"--kind {name!r}: one of {', '.join([*KINDS, *FAMILIES, NONE])}")
    return [name for name, kind in KINDS.items() if name in names or kind.family in names]


def _sources(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, equals, place = text.partition("=")
        if not equals or not place:
            raise UsageError(f"--source {text!r}: use NAME=PATH or NAME={HUB}")
        if name not in SOURCES:
            raise UsageError(f"--source {name!r}: one of {', '.join(SOURCES)}")
        if name in found:
            raise UsageError(f"--source {name!r}: given twice")
        found[name] = place
    return found
