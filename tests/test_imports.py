"""Imports point one way (docs/design.md), and the client brings none of the server's weight with
it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED: dict[str, set[str]] = {
    "probes": set(),
    "service": {"probes"},
    "client": {"service.schema"},
    "jobs": {"client", "probes", "service"},
    "bench": {"client", "jobs.manifest", "jobs.plots", "probes", "service"},
    "demo": {"client", "jobs", "probes", "service"},
    "candor": {"client", "demo", "jobs", "probes", "service"},
}
"""What each package may import of the others: whole packages, or single modules."""


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import anywhere in a module; relative ones stay inside by
    nature."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def violations(package: str, source: str) -> list[str]:
    found = []
    for line, name in imported(ast.parse(source)):
        top = name.partition(".")[0]
        if top == package or top not in {*ALLOWED, "tests"}:
            continue
        if not any(f"{name}.".startswith(f"{allowed}.") for allowed in ALLOWED[package]):
            found.append(f"{line}: {package} imports {name}")
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_every_import_points_the_way_the_design_says(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{violation}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for violation in violations(package, path.read_text())
    ]
    assert found == []


def test_the_packages_checked_are_there_and_not_empty() -> None:
    for package in ("probes", "service", "client", "jobs"):
        assert len(list((ROOT / package).glob("*.py"))) > 3, package


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("probes", "from service.errors import CandorError"),
        ("probes", "def f():\n    import service.batch"),
        ("service", "import client"),
        ("service", "from jobs.ledger import Ledger"),
        ("client", "from service.app import create_app"),
        ("client", "from service import errors"),
        ("client", "import service.schema_of_others"),
        ("client", "import torch, probes.probe"),
        ("jobs", "from demo.tell import page"),
        ("jobs", "from tests.tiny import model"),
    ],
)
def test_an_import_the_wrong_way_is_found(package: str, source: str) -> None:
    assert len(violations(package, source)) == 1


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("client", "from service.schema import RewardResponse\nfrom service import schema"),
        ("client", "from client.retry import Retry\nimport httpx2"),
        ("jobs", "from client import RewardClient\nfrom probes.probe import Probe"),
    ],
)
def test_an_import_the_right_way_is_not(package: str, source: str) -> None:
    assert violations(package, source) == []


SERVER_EXTRA = {
    "cyclopts", "fastapi", "huggingface_hub", "jinja2", "numpy", "orjson", "prometheus_client",
    "pydantic", "pydantic_core", "safetensors", "starlette", "structlog", "tokenizers", "torch",
    "transformers", "uvicorn",
}  # fmt: skip
"""What pyproject's `server` extra installs, with what its members cannot be without."""

ELSEWHERE = {"ray": "ray_", "vllm": "vllm_"}
"""Libraries of other extras, and the beginning of the files that may import them."""


def strangers(name: str, source: str) -> set[str]:
    """Libraries that a service module imports and the `server` extra does not bring."""
    tops = {dotted.partition(".")[0] for _, dotted in imported(ast.parse(source))}
    allowed = {top for top, start in ELSEWHERE.items() if name.startswith(start)}
    return tops - {*ALLOWED, *sys.stdlib_module_names, *SERVER_EXTRA, *allowed}


def test_the_service_needs_only_what_its_extra_installs() -> None:
    for path in sorted((ROOT / "service").rglob("*.py")):
        assert strangers(path.name, path.read_text()) == set(), path
    assert strangers("gate.py", "from scipy.stats import spearmanr") == {"scipy"}
    assert strangers("gate.py", "import ray") == {"ray"}


def loaded_by(statement: str) -> set[str]:
    """Top-level names in `sys.modules` after `statement` in a fresh interpreter."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


HEAVY = {"fastapi", "numpy", "orjson", "sklearn", "starlette", "structlog", "torch", "transformers"}


def test_the_client_loads_neither_torch_nor_a_server() -> None:
    loaded = loaded_by("import client, client.generator, client.reward")
    assert {"httpx2", "pydantic"} <= loaded
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize("module", ["jobs.generate", "jobs.score", "jobs.bon"])
def test_jobs_that_only_talk_to_servers_load_no_model_library(module: str) -> None:
    assert loaded_by(f"import {module}").isdisjoint({"torch", "transformers", "fastapi", "sklearn"})


def test_the_check_would_see_a_heavy_library() -> None:
    assert "fastapi" in loaded_by("import client, fastapi")
