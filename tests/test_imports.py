"""Imports point one way, room by room (docs/design.md), and the client brings none of the server's
weight with it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

import pytest

from tests.imports import HEAVY, loaded_by
from tests.modules import MODULES, SOURCE_ROOTS
from tests.paths import ROOT

SERVICE = (
    ("candor.ray",),
    ("candor.serve",),
    ("candor.assemble", "candor.http"),
    ("candor.settings",),
    ("candor.trainers",),
    ("candor.scoring",),
    ("candor.watch", "candor.labels"),
    ("candor.engines.vllm",),
    ("candor.engines",),
    ("candor.models",),
    ("candor.batching", "candor.text"),
    ("candor.methods", "candor.variables"),
    ("candor.item", "candor.logs", "candor.invalid", "candor.page"),
    ("candor.flags",),
    ("candor.errors", "candor.nearest", "candor.version"),
)
PROBES = (
    ("candor.probes.kinds.public",),
    ("candor.probes.kinds",),
    ("candor.probes.fitting",),
    ("candor.probes.statistics",),
    ("candor.probes.sources",),
)
FLOORS = (
    ("demo.rl", "demo.replicate", "demo.evasion"),
    ("demo", "bench", "docsite"),
    ("bench.arms",),
    ("bench.load",),
    ("candor.__main__",),
    ("candor.cli",),
    ("candor.jobs.rl",),
    ("candor.jobs.rl.evaluation",),
    ("candor.jobs.rl.groups",),
    ("candor.jobs.data",),
    ("candor.jobs.sycophancy", "candor.jobs.probe", "candor.jobs.hub"),
    ("candor.jobs.grounded", "candor.jobs.check", "candor.jobs.inspect"),
    ("candor.jobs.rollouts", "candor.jobs.model", "candor.jobs.generator"),
    ("candor.jobs.pages",),
    ("candor.jobs.running", "candor.jobs.compare"),
    ("candor.jobs.formats",),
    ("candor.jobs",),
    *SERVICE,
    *PROBES,
    ("candor.probes",),
    ("candor.forward", "candor.client"),
)
"""Every room, the highest first. A room imports only rooms of lower floors."""

NOT_OF = {
    "candor.client": ("candor.forward", "candor.probes"),
    "candor.probes": ("candor.client",),
    **{room: ("candor.client.",) for floor in SERVICE for room in floor},
}
"""What a room does not import although it lies lower; a name that ends in a dot is a whole tree."""

WIRE = "candor.client.schema"
"""The service takes its wire types from here, and nothing else from the client."""


ROOMS = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(name: str) -> str | None:
    """The innermost room that a dotted name lies in; None for a name that is not ours."""
    while name:
        if name in ROOMS:
            return name
        name = name.rpartition(".")[0]
    return None


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import anywhere in a module; relative ones stay inside by
    nature."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield node.lineno, name if name in MODULES else node.module


def violations(room: str, source: str) -> list[str]:
    """Imports of ours that a module of `room` may not make."""
    found = []
    for line, name in imported(ast.parse(source)):
        other = room_of(name)
        ours = name.partition(".")[0] in {"candor", "demo", "bench", "docsite", "tests"}
        if not ours or other == room:
            continue
        lower = other is not None and ROOMS[other] > ROOMS[room]
        hidden = any(f"{name}.".startswith(f"{one.rstrip('.')}.") for one in NOT_OF.get(room, ()))
        if not lower or (hidden and name != WIRE):
            found.append(f"{line}: {room} imports {name}")
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_every_import_points_to_a_lower_floor(room: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{violation}"
        for name, path in MODULES.items()
        if room_of(name) == room
        for violation in violations(room, path.read_text())
    ]
    assert found == []


def test_every_module_lies_in_a_room_and_no_room_is_empty() -> None:
    homes = {room_of(name) for name in MODULES}
    assert homes == set(ROOMS)


def test_the_namespace_has_no_init() -> None:
    """With an `__init__.py` of its own, one portion of `candor` would hide all the others."""
    assert [
        root for root in SOURCE_ROOTS if (ROOT / root / "candor" / "__init__.py").exists()
    ] == []


def test_no_test_module_imports_another() -> None:
    """What tests share lies in modules of its own, named for what they hold."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line, name in imported(ast.parse(path.read_text()))
        if name.startswith("tests.") and ".test_" in name
    ]
    assert found == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("candor.forward", "from candor.probes.probe import Probe"),
        ("candor.probes", "from candor.errors import CandorError"),
        ("candor.probes", "from candor.probes.fitting.fit import fit"),
        ("candor.probes", "def f():\n    import candor.batching.batch"),
        ("candor.batching", "from candor.client import RewardClient"),
        ("candor.batching", "from candor.client.errors import ClientError"),
        ("candor.batching", "from candor.text.render import Renderer"),
        ("candor.trainers", "from candor.http.parse import parse"),
        ("candor.http", "from candor.assemble import load"),
        ("candor.serve", "from candor.jobs.running.ledger import Ledger"),
        ("candor.client", "from candor.http.app import create_app"),
        ("candor.client", "import torch, candor.probes.probe"),
        ("candor.jobs.running", "from demo.poems.summary import page"),
        ("candor.jobs.running", "from candor.jobs.rollouts import score"),
        ("candor.jobs.running", "from tests.tiny import model"),
    ],
)
def test_an_import_the_wrong_way_is_found(room: str, source: str) -> None:
    assert len(violations(room, source)) == 1


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("candor.http", "from candor.client.schema import RewardResponse"),
        ("candor.http", "from candor.client import schema\nfrom candor.http.edge import Edge"),
        ("candor.client", "from candor.client.retry import Retry\nimport httpx2"),
        ("candor.jobs.rollouts", "from candor.client import RewardClient"),
    ],
)
def test_an_import_the_right_way_is_not(room: str, source: str) -> None:
    assert violations(room, source) == []


SERVER_EXTRA = {
    "cachetools", "cyclopts", "fastapi", "huggingface_hub", "jinja2", "markupsafe", "numpy",
    "orjson", "prometheus_client", "pydantic", "pydantic_core", "safetensors", "starlette",
    "structlog", "tokenizers", "torch", "transformers", "uvicorn",
}  # fmt: skip
"""What pyproject's `server` extra installs, with what its members cannot be without."""

ELSEWHERE = {"ray": "candor.ray", "vllm": "candor.engines.vllm"}
"""Libraries of other extras, and the rooms that may import them."""


def strangers(room: str, source: str) -> set[str]:
    """Libraries that a module of the service imports and the `server` extra does not bring."""
    tops = {name.partition(".")[0] for _, name in imported(ast.parse(source))}
    allowed = {top for top, home in ELSEWHERE.items() if room == home}
    return tops - {"candor", *sys.stdlib_module_names, *SERVER_EXTRA, *allowed}


def test_the_service_needs_only_what_its_extra_installs() -> None:
    for name, path in MODULES.items():
        if (ROOT / "service") in path.parents:
            assert strangers(room_of(name) or "", path.read_text()) == set(), path
    assert strangers("candor.engines", "from scipy.stats import spearmanr") == {"scipy"}
    assert strangers("candor.engines", "import ray") == {"ray"}


def test_the_client_loads_neither_torch_nor_a_server() -> None:
    """With every adapter, in an environment that has both."""
    modules = [name for name in MODULES if name.startswith("candor.client.")]
    assert {"candor.client.trl", "candor.client.verl", "candor.client.nemo"} <= {*modules}
    loaded = loaded_by(f"import {', '.join(modules)}")
    assert {"httpx2", "pydantic"} <= loaded
    assert loaded.isdisjoint(HEAVY | {"datasets", "pandas", "trl"})


@pytest.mark.parametrize(
    "job",
    ["rollouts.generate", "rollouts.score", "rollouts.bon", "sycophancy.job", "grounded.judged"],
)
def test_jobs_that_only_talk_to_servers_load_no_model_library(job: str) -> None:
    loaded = loaded_by(f"import candor.jobs.{job}")
    assert loaded.isdisjoint({"torch", "transformers", "fastapi", "sklearn", "vaderSentiment"})


def test_the_check_would_see_a_heavy_library() -> None:
    assert "fastapi" in loaded_by("import candor.client, fastapi")
