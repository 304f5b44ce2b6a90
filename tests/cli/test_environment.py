"""`candor env`: facts for a bug report, and no key."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version

from candor.jobs.running.processes import candor
from candor.version import VERSION
from tests.imports import loaded_by
from tests.paths import ROOT
from tests.serve_process import serve_environment


def test_it_says_versions_and_settings_and_hides_keys() -> None:
    ended = subprocess.run(
        candor("env"),
        cwd=ROOT,
        env=serve_environment(
            CANDOR_API_KEY="tops3cret",
            CANDOR_SERVE_PORT="8123",
            CANDOR_SERVE_API_KEY_FILE="/run/key",
        ),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    facts = {
        name: fact.strip()
        for line in ended.stdout.splitlines()
        if line.startswith("  ")
        for name, _, fact in [line.strip().partition("  ")]
    }
    assert facts["version"] == VERSION
    assert facts["python"].startswith(platform.python_version())
    assert facts["cyclopts"] == version("cyclopts")
    assert facts["CANDOR_SERVE_PORT"] == "8123"
    assert facts["CANDOR_SERVE_API_KEY_FILE"] == "/run/key"
    assert facts["CANDOR_API_KEY"] == "(set, not shown)"
    assert "tops3cret" not in ended.stdout


def test_it_imports_none_of_what_may_be_broken() -> None:
    loaded = loaded_by("from candor.cli.environment import sections\n[*sections()]")
    assert loaded.isdisjoint({"torch", "transformers", "fastapi"})
