"""`<out>.manifest.json` says where an output came from.

It is written last, so an output that has its manifest is complete.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from candor.jobs.running.files import file_sha256, source_sha256, write_json

PACKAGES = (
    "candor-rewards",
    "httpx2",
    "numpy",
    "orjson",
    "peft",
    "pydantic",
    "scikit-learn",
    "torch",
    "transformers",
    "trl",
)


def now() -> str:
    """The wall clock in UTC, as ISO 8601. For people to read, never for deadlines."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def manifest_path(out: Path) -> Path:
    return out.with_name(out.name + ".manifest.json")


def write_manifest(
    out: Path,
    *,
    command: str,
    inputs: Mapping[str, Path],
    settings: Mapping[str, Any],
    server: Mapping[str, Any] | None = None,
    counts: Mapping[str, int],
    started: str,
) -> None:
    """Write the manifest of the finished file `out`.

    Args:
        command: the sub-command's name.
        inputs: input files by role.
        settings: every option that decides the result.
        server: the servers' descriptions of their models (`/v1/models`, `/v1/probes`).
        counts: number of rows done, failed, ...
        started: `now()` at the start of this run; for a resumed job, of its last run.
    """
    write_json(
        manifest_path(out),
        {
            "manifest_version": 1,
            "command": command,
            "argv": sys.argv,
            "inputs": {
                role: {"path": str(path), "sha256": source_sha256(path)}
                for role, path in inputs.items()
            },
            "output": {"path": str(out), "sha256": file_sha256(out)},
            "settings": dict(settings),
            "server": None if server is None else dict(server),
            "counts": dict(counts),
            "started": started,
            "finished": now(),
            "git": git_state(),
            "python": platform.python_version(),
            "packages": package_versions(),
            "machine": machine(),
        },
    )


def package_versions() -> dict[str, str]:
    """Versions of the installed packages that can change a number."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def git_state() -> dict[str, Any] | None:
    """Commit of the running code and whether its work tree has changes.

    None outside a git repository.
    """
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        # An installed copy may lie inside a repository that does not track it.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return {"sha": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def machine() -> dict[str, Any]:
    """The machine that this job ran on (not the server's)."""
    return {"platform": platform.platform(), "cpu": _cpu_name(), "num_cpus": os.cpu_count()}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
