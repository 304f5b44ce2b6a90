"""What a statement loads, in a fresh interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator

from tests.modules import MODULES
from tests.paths import ROOT


def loaded_by(statement: str) -> set[str]:
    """Top-level names in `sys.modules` after `statement` in a fresh interpreter."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


HEAVY = {"fastapi", "numpy", "orjson", "sklearn", "starlette", "structlog", "torch", "transformers"}


def named(name: str) -> Iterator[str]:
    """The dotted names that a module of ours imports anywhere, inside its functions too. What only
    a type checker imports is left out."""
    tree = ast.parse(MODULES[name].read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def reachable(name: str) -> set[str]:
    """Top-level names of the packages of others that a module of ours can come to import."""
    seen, todo, others = {name}, [name], set()
    while todo:
        for other in named(todo.pop()):
            parts = other.split(".")
            ours = {".".join(parts[:n]) for n in range(1, len(parts) + 1)} & MODULES.keys()
            if not ours and parts[0] != "candor":
                others.add(parts[0])
            todo += ours - seen
            seen |= ours
    return others - sys.stdlib_module_names
